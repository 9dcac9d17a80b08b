"""Tables in files, and toy data with its true density.

Importing this package imports numpy; polars is imported when a table is first read or written.
"""

from vmonf.data.faults import TableError
from vmonf.data.source import Source, open_source
from vmonf.data.tables import read_table, write_table
from vmonf.data.toy import Pinwheel, ToyMixture, TwoCircles

__all__ = [
    "Pinwheel",
    "Source",
    "TableError",
    "ToyMixture",
    "TwoCircles",
    "open_source",
    "read_table",
    "write_table",
]


def __dir__() -> list[str]:
    return __all__
