"""Read and write tables in files, and convert their columns to arrays.

The ending of a file's name gives its format: .csv, .tsv, .parquet or .npy. Every fault of a
table or its file raises `TableError`, whose message is one sentence: what is wrong, where, and
what to do. Messages count rows from 1, without the header.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vmonf.data.faults import TableError, reason
from vmonf.data.text import read_text
from vmonf.files import check_ending, check_output, written_whole
from vmonf.labels import LabelError, read_labels

# Polars is imported inside the functions, so that `vmonf --help` is fast.
if TYPE_CHECKING:
    import polars

ENDINGS = (".csv", ".tsv", ".parquet", ".npy")
#: What else can be done about empty cells, at the end of a message.
OR_FIT_WITH_GAPS = ", or fit with --missing marginal"

SEPARATORS = {".csv": ",", ".tsv": "\t"}

#: Texts that are dates or times, and numbers with a comma.
_DATE = re.compile(r"\d{4}-\d{1,2}(-\d{1,2}|$)|\d{1,4}[./-]\d{1,2}[./-]\d{2,4}|\d{1,2}:\d\d")
_COMMA = re.compile(r"[+-]?\d+(,\d+)+$")


def read_table(path: str | os.PathLike[str]) -> polars.DataFrame:
    """Read a table from a file, in the format that the file's ending names.

    Parameters
    ----------
    path : path-like
        A file that ends in .csv, .tsv (text with a header line; empty cells are null), .parquet or
        .npy (an array of n rows, or of n rows and D columns, which are then named "0", "1", ...;
        without pickled objects).

    Returns
    -------
    polars.DataFrame
        At least one row and one column.

    Raises
    ------
    TableError
        If the ending is not known, the file is missing, is a folder or cannot be read, or the
        table is empty.

    Notes
    -----
    Types of a text file's columns are inferred from all of its rows. Blanks around numbers and
    column names are removed. Blank lines at the end of the file are ignored, unless the table
    has a single column, where a blank line is an empty cell.

    In a column of numbers, texts such as "NA", "?" and "-" (`vmonf.data.text.MISSING`) are null. A
    column without a name, such as pandas' and R's row numbers, is left out with a warning. Text in
    UTF-16, or separated by `;`, tabs or `|`, is read too, as are decimal commas if cells are not
    separated by commas; Latin-1 is read with a warning. A first line of numbers is refused.
    """
    import polars

    source = Path(path)
    try:
        ending = check_ending(source, ENDINGS)
    except ValueError as error:
        raise TableError(str(error)) from error
    if source.is_dir():
        raise TableError(f"'{source}' is a folder, not a file: name one table in it.")
    if not source.exists():
        raise TableError(f"The file '{source}' does not exist: check its name and folder.")
    if not source.is_file():
        raise TableError(f"'{source}' is a device or a pipe, not a file: copy the table to a file.")
    try:
        if ending == ".parquet":
            frame = polars.read_parquet(source, glob=False)
        elif ending == ".npy":
            frame = _read_npy(source)
        else:
            frame = read_text(source, SEPARATORS[ending])
    except TableError:
        raise
    except OSError as error:
        raise TableError(
            f"'{source}' cannot be read: {reason(error)}; check the file and its permissions."
        ) from error
    # Polars panics on some damaged files, and numpy raises ValueError.
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException, ValueError) as error:
        raise TableError(
            f"'{source}' cannot be read as {ending} ({reason(error)}): check that it is complete "
            "and that its ending matches its content."
        ) from error
    if 0 in frame.shape:
        raise TableError(f"'{source}' is empty: a table needs at least one row and one column.")
    return frame


def write_table(frame: polars.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table to a file, in the format that the file's ending names.

    The file is written whole or not at all.

    Parameters
    ----------
    frame : polars.DataFrame
    path : path-like
        A file that ends in .csv, .tsv, .parquet or .npy. A file of this name is replaced.
        In .npy, which keeps no column names, the array is int64 if all columns hold whole
        numbers without nulls and float64 otherwise, where null becomes NaN; it has one axis if
        the table has a single column, otherwise two.

    Raises
    ------
    TableError
        If the ending is not known, the path is a folder, its folder does not exist or may not
        be written to, the format cannot hold the table, or the disk is full or fails.
    """
    import polars

    target, ending = checked_target(path)
    try:
        with written_whole(target) as stream:
            if ending == ".parquet":
                frame.write_parquet(stream)
            elif ending == ".npy":
                np.save(stream, to_array(frame, target), allow_pickle=False)
            else:
                frame.write_csv(stream, separator=SEPARATORS[ending])
    except (OSError, polars.exceptions.PolarsError) as error:
        remedy = "convert or drop such columns" if ending == ".parquet" else "choose .parquet"
        remedy = "choose another place" if isinstance(error, OSError) else remedy
        raise TableError(f"'{target}' cannot be written ({reason(error)}): {remedy}.") from error


def checked_target(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """The path of a table to write, and its ending in lower case.

    Raises
    ------
    TableError
        If the ending is not known, or the path is not one of a file that may be written.
    """
    target = Path(path)
    try:
        check_output(target, ENDINGS)
    except ValueError as error:
        raise TableError(str(error)) from error
    return target, target.suffix.lower()


def feature_columns(
    frame: polars.DataFrame, columns: Sequence[str] | None, exclude: Sequence[str]
) -> list[str]:
    """Choose the numeric columns of a table that are its features.

    Parameters
    ----------
    frame : polars.DataFrame
    columns : sequence of str, or None
        The names of the features, in the order wanted. ``None`` means every column.
    exclude : sequence of str
        Names of columns that are not features, such as labels or identifiers.

    Returns
    -------
    list of str
        The names, without the excluded ones. Each column holds numbers or booleans.

    Raises
    ------
    TableError
        If a name is missing from the table or given twice, none is left, or a column is not
        numeric.
    """
    chosen = list(frame.columns if columns is None else columns)
    _check_exist(frame, [*chosen, *exclude])
    for name, count in Counter(chosen).items():
        if count > 1:
            raise TableError(f"The column {name!r} is chosen twice: name it once.")
    excluded = set(exclude)
    chosen = [name for name in chosen if name not in excluded]
    if not chosen:
        raise TableError("No column is left to be a feature: choose one that is not excluded.")
    for name in _not_numeric(frame.select(chosen)):
        raise TableError(f"The column {name!r} {_fault(frame[name])}, or choose columns.")
    return chosen


def select_columns(frame: polars.DataFrame, names: Sequence[str]) -> list[str]:
    """The names, each once.

    Raises
    ------
    TableError
        If one is missing from the table.
    """
    _check_exist(frame, names)
    return list(dict.fromkeys(names))


def to_matrix(
    frame: polars.DataFrame,
    columns: Sequence[str],
    first_row: int = 0,
    *,
    with_gaps: bool = False,
    or_else: str = OR_FIT_WITH_GAPS,
) -> NDArray[np.float64]:
    """Convert numeric columns to a matrix.

    Parameters
    ----------
    frame : polars.DataFrame
    columns : sequence of str
        The names of the columns, as `feature_columns` returns them.
    first_row : int
        The number of rows of the table before this part of it, for messages.
    with_gaps : bool
        Whether cells may be empty or NaN, and are then NaN.
    or_else : str
        What else can be done about empty cells, at the end of a message.

    Returns
    -------
    ndarray of shape (n, D), float64
        Row-major, every value finite unless `with_gaps`. True is 1 and False is 0.

    Raises
    ------
    TableError
        If a cell is infinite, or, unless `with_gaps`, empty or NaN; or `feature_columns` refuses
        the columns.
    """
    import polars

    names = feature_columns(frame, columns, [])
    numbers = frame.select(names).cast(polars.Float64)
    matrix = numbers.to_numpy(order="c", writable=True)
    is_gap = np.isinf(matrix) if with_gaps else ~np.isfinite(matrix)
    if not is_gap.any():
        return matrix
    row, position = map(int, np.argwhere(is_gap)[0])
    value = numbers[row, position]
    fault = "empty" if value is None else "NaN" if np.isnan(value) else "infinite"
    counts = is_gap.sum(axis=0)
    raise TableError(
        f"The cell in column {names[position]!r}, row {first_row + row + 1} is {fault}, one of "
        f"{counts.sum()} that are empty or not finite ({counted(names, counts)}): fill such cells, "
        f"remove their rows, or exclude their columns{'' if fault == 'infinite' else or_else}."
    )


def counted(names: Sequence[str], counts: NDArray[np.int64]) -> str:
    """How many faults each column has that has any, the most first: "'b': 4, 'a': 2"."""
    order = [j for j in np.argsort(-counts, kind="stable") if counts[j]]
    shown = ", ".join(f"{names[j]!r}: {counts[j]}" for j in order[:5])
    return shown + (f" and {len(order) - 5} more columns" if len(order) > 5 else "")


def label_column(frame: polars.DataFrame, name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read the labels of the rows from a column, where some rows may have none.

    Parameters
    ----------
    frame : polars.DataFrame
    name : str
        The column of labels: whole numbers, booleans (as 0 and 1) or text. Whole numbers
        stored as floats, which happens in a column with empty cells, are whole numbers.

    Returns
    -------
    labels : ndarray of shape (n,)
        int64, with -1 for a row without a label; or object, each a str, with "" for such a row.
    is_labelled : ndarray of shape (n,), bool
        False where the cell is empty, blank text, NaN, or -1, which by scikit-learn's
        convention means "no label".

    Raises
    ------
    TableError
        If the column is missing, or holds something other than whole numbers or text.
    """
    import polars

    _check_exist(frame, [name])
    column = frame[name]
    kind = column.dtype
    if kind in (polars.Categorical, polars.Enum):
        column = column.cast(polars.String)
    elif kind.is_integer() or kind in (polars.Boolean, polars.Null):
        whole = column.cast(polars.Int64, strict=False)
        too_large = whole.is_null() & column.is_not_null()
        if too_large.any():
            row = too_large.arg_true()[0]
            raise TableError(
                f"The labels in column {name!r} must be whole numbers of 64 bits or text, but row "
                f"{row + 1} holds {column[row]}: choose another column, or make it text."
            )
        column = whole.fill_null(-1)
    elif not (kind.is_numeric() or kind == polars.String):
        raise TableError(
            f"The column {name!r} has the type {kind}, but labels are whole numbers or text: "
            "choose another column."
        )
    try:
        return read_labels(column.to_numpy())
    except LabelError as error:
        held = "" if error.row is None else f", but row {error.row + 1} holds {column[error.row]}"
        raise TableError(
            f"The labels in column {name!r} must be whole numbers or text{held}: choose another "
            "column, round it, or make it text."
        ) from error


def _read_npy(source: Path) -> polars.DataFrame:
    """Read a numeric array of one or two axes."""
    import polars

    if source.stat().st_size == 0:
        return polars.DataFrame()
    # Unlike numpy.load, this reads neither archives nor pickles.
    with open(source, "rb") as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    kind = array.dtype.newbyteorder("=")
    if kind.kind not in "biuf" or array.ndim not in (1, 2):
        raise TableError(
            f"'{source}' holds an array of type {array.dtype} and {array.ndim} axes: save real "
            "numbers with rows and columns, or with rows only."
        )
    # Polars does not support every float type of numpy.
    if kind.kind == "f" and kind.itemsize not in (4, 8):
        kind = np.dtype(np.float64)
    array = array.astype(kind, copy=False)
    array = array[:, None] if array.ndim == 1 else array
    return polars.from_numpy(array, [str(index) for index in range(array.shape[1])], orient="row")


def to_array(frame: polars.DataFrame, target: Path) -> NDArray[Any]:
    """Convert a numeric table to the array that is saved as .npy."""
    import polars

    if frame.width == 0:
        raise TableError(f"The table for '{target}' has no columns: there is no array.")
    for name in _not_numeric(frame):
        raise TableError(
            f"The column {name!r} is not numeric, so that '{target}' cannot hold it: use .csv or "
            ".parquet."
        )
    is_whole = all(kind.is_integer() or kind == polars.Boolean for kind in frame.dtypes)
    has_nulls = any(column.null_count() for column in frame)
    numbers = frame.cast(polars.Int64 if is_whole and not has_nulls else polars.Float64)
    array = numbers.to_numpy(order="c")
    return array[:, 0] if frame.width == 1 else array


def _not_numeric(frame: polars.DataFrame) -> list[str]:
    """The names of the columns that hold neither numbers nor booleans."""
    from polars import selectors

    return frame.select(selectors.exclude(selectors.numeric() | selectors.boolean())).columns


def _fault(column: polars.Series) -> str:
    """Describe why a column is not numeric, with its first such value, and what to do about it."""
    import polars

    wrong = present = column.is_not_null()
    if not present.any():
        return "has no values: exclude it"
    remedy = "exclude it"
    if column.dtype == polars.String:
        numbers = column.str.strip_chars().cast(polars.Float64, strict=False)
        wrong = present & numbers.is_null()
        if 0 < wrong.sum() <= present.sum() / 2:
            remedy = "correct such cells, leave them empty, exclude it"
        # If a .parquet file holds all its numbers as text, the first of them is shown.
        wrong = wrong if wrong.any() else present
    row = wrong.arg_true()[0]
    cell = column.slice(row, 1).to_list()[0]
    value = repr(cell) if isinstance(cell, str) else str(cell)
    value = value if len(value) <= 60 else f"{value[:60]}..."
    if column.dtype.is_temporal() or (isinstance(cell, str) and _DATE.match(cell.strip())):
        return (
            f"holds dates or times (row {row + 1} holds {value}, of type {column.dtype}): convert "
            "it to a number, such as days since the first, exclude it"
        )
    hint = ""
    if isinstance(cell, str) and _COMMA.match(cell.strip()):
        hint = "; write decimals with a point"
    return f"is not numeric (row {row + 1} holds {value}, of type {column.dtype}{hint}): {remedy}"


def _check_exist(frame: polars.DataFrame, names: Sequence[str]) -> None:
    """Raise TableError, with the most similar name, unless the table has all the columns."""
    known = set(frame.columns)
    name = next((name for name in names if name not in known), None)
    if name is None:
        return
    by_lower = {other.strip().lower(): other for other in frame.columns}
    similar = difflib.get_close_matches(name.strip().lower(), by_lower, n=1)
    question = f" (did you mean {by_lower[similar[0]]!r}?)" if similar else ""
    shown = ", ".join(map(repr, frame.columns[:12]))
    more = f" and {frame.width - 12} more" if frame.width > 12 else ""
    raise TableError(f"The table has no column {name!r}{question}: its columns are {shown}{more}.")
