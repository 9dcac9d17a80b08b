"""Tables in and out of files, and toy data with its true density.

numpy alone is imported here; polars only once a table is touched.
"""

from vmonf.data.tables import (
    ENDINGS,
    TableError,
    check_writable,
    feature_columns,
    label_column,
    read_table,
    to_matrix,
    write_table,
)
from vmonf.data.toy import Pinwheel, ToyMixture, TwoCircles

__all__ = [
    "ENDINGS",
    "Pinwheel",
    "TableError",
    "ToyMixture",
    "TwoCircles",
    "check_writable",
    "feature_columns",
    "label_column",
    "read_table",
    "to_matrix",
    "write_table",
]
