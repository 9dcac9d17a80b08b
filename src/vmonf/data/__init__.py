"""Tables in files, and toy data with its true density.

Importing this package imports numpy; polars is imported when a table is first read or written.
"""

from vmonf.data.faults import TableError
from vmonf.data.tables import read_table, write_table
from vmonf.data.toy import Pinwheel, ToyMixture, TwoCircles

__all__ = ["Pinwheel", "TableError", "ToyMixture", "TwoCircles", "read_table", "write_table"]


def __dir__() -> list[str]:
    return __all__
