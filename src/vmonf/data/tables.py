"""Tables in and out of files, and the columns of a table as arrays.

The ending of a file's name says its format: .csv, .tsv, .parquet or .npy. Whatever a user can
get wrong here is a `TableError`, whose message is one sentence: what is wrong, where, and what
to do. Rows are counted from 1 in messages, and a header is not counted.
"""

from __future__ import annotations

import difflib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

# Polars is imported inside the functions, so that `vmonf --help` need not wait for it.
if TYPE_CHECKING:
    import polars

ENDINGS = (".csv", ".tsv", ".parquet", ".npy")

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_MOST_NAMES_SHOWN = 12
_LARGEST_EXACT_INTEGER = 2**53


class TableError(ValueError):
    """A table, its file or one of its columns is not as needed; the message says what to do."""


def read_table(path: str | os.PathLike[str]) -> polars.DataFrame:
    """Read a table from a file, in the format that the file's ending names.

    Parameters
    ----------
    path : path-like
        A file that ends in .csv, .tsv (both UTF-8, with a header line, empty cells are null),
        .parquet or .npy (an array of n rows, or of n rows and D columns, which are then named
        "0", "1", ...; nothing pickled).

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
    column names are no part of them. Lines left blank at the end of the file are no rows, unless
    the table has a single column, where a blank line is an empty cell.
    """
    import polars

    source = Path(path)
    ending = _ending(source)
    if source.is_dir():
        raise TableError(f"{_shown(source)} is a folder, not a file: name one table in it.")
    if not source.exists():
        raise TableError(f"The file {_shown(source)} does not exist: check its name and folder.")
    try:
        if ending in _SEPARATORS:
            frame = _read_text(source, _SEPARATORS[ending])
        elif ending == ".parquet":
            frame = polars.read_parquet(source, glob=False)
        else:
            frame = _read_npy(source)
    except TableError:
        raise
    except OSError as error:
        raise TableError(
            f"{_shown(source)} cannot be read: {_reason(error)}; check the file and its "
            "permissions."
        ) from error
    except polars.exceptions.NoDataError as error:
        raise TableError(_empty_message(source)) from error
    # Polars panics on some damaged files, and numpy raises these two on truncated ones.
    except (
        polars.exceptions.PolarsError,
        polars.exceptions.PanicException,
        ValueError,
        EOFError,
    ) as error:
        raise TableError(
            f"{_shown(source)} cannot be read as {ending} ({_reason(error)}): check that it is "
            "whole and that its ending fits what it holds."
        ) from error
    if frame.height == 0 or frame.width == 0:
        raise TableError(_empty_message(source))
    return frame


def write_table(frame: polars.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table to a file, in the format that the file's ending names.

    The file appears whole or not at all: the table is written to a temporary file beside it,
    which then takes its name.

    Parameters
    ----------
    frame : polars.DataFrame
        The table.
    path : path-like
        A file that ends in .csv, .tsv, .parquet or .npy. A file of this name is replaced.
        In .npy, which keeps no column names, the array is int64 if all columns hold whole
        numbers without nulls and float64 otherwise, where null becomes NaN; it has one axis if
        the table has a single column, else two.

    Raises
    ------
    TableError
        If `check_writable` would raise it, the format cannot hold the table, or the disk does
        not take it.
    """
    import polars

    check_writable(path)
    target = Path(path)
    ending = _ending(target)
    array = _to_array(frame, target) if ending == ".npy" else None
    # A link should go on pointing to its file, which os.replace would not honour by itself.
    final = Path(os.path.realpath(target))
    temporary = final.with_name(f".{final.name[:200]}.{secrets.token_hex(8)}.part")
    try:
        # "x" so that nobody else's file is overwritten, and the usual permissions apply.
        with open(temporary, "xb") as stream:
            if array is not None:
                np.save(stream, array, allow_pickle=False)
            else:
                _write_frame(frame, stream, ending)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, final)
    except OSError as error:
        raise TableError(
            f"{_shown(target)} cannot be written: {_reason(error)}; choose another place."
        ) from error
    except polars.exceptions.PolarsError as error:
        remedy = "convert or drop such columns" if ending == ".parquet" else "choose .parquet"
        raise TableError(
            f"The table cannot be written to {_shown(target)} ({_reason(error)}): {remedy}."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Check that `write_table` can write to a path, before long work is done in vain.

    Parameters
    ----------
    path : path-like
        The file to be written later. Nothing is written now.

    Raises
    ------
    TableError
        If the ending is not known, the path is a folder, or the folder of the file does not
        exist or may not be written to.
    """
    target = Path(path)
    _ending(target)
    if target.is_dir():
        raise TableError(f"{_shown(target)} is a folder: add the name of a file to write in it.")
    folder = Path(os.path.realpath(target)).parent
    if not folder.exists():
        raise TableError(f"The folder {_shown(folder)} does not exist: create it first.")
    if not folder.is_dir():
        raise TableError(f"{_shown(folder)} is not a folder: choose another place to write to.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TableError(
            f"The folder {_shown(folder)} may not be written to: choose another folder, or "
            "change its permissions."
        )


def feature_columns(
    frame: polars.DataFrame, columns: Sequence[str] | None, exclude: Sequence[str]
) -> list[str]:
    """Choose the numeric columns of a table that are its features.

    Parameters
    ----------
    frame : polars.DataFrame
        The table.
    columns : sequence of str, or None
        The names of the features, in the order wanted. ``None`` means every column.
    exclude : sequence of str
        Names that are no features, such as the labels' or an identifier's.

    Returns
    -------
    list of str
        The names, without the excluded ones. Each is a column of numbers or booleans.

    Raises
    ------
    TableError
        If a name is missing from the table or given twice, none is left, or a column is not
        numeric.
    """
    chosen = list(frame.columns if columns is None else columns)
    for name in (*chosen, *exclude):
        _check_exists(frame, name)
    for position, name in enumerate(chosen):
        if name in chosen[:position]:
            raise TableError(f"The column {name!r} is chosen twice: name it once.")
    excluded = set(exclude)
    chosen = [name for name in chosen if name not in excluded]
    if not chosen:
        raise TableError(
            "No column is left to be a feature: choose at least one column that is not "
            f"excluded, among {_names_shown(frame.columns)}."
        )
    for name in chosen:
        _check_numeric(frame[name])
    return chosen


def to_matrix(frame: polars.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    """Turn numeric columns into a matrix without gaps.

    Parameters
    ----------
    frame : polars.DataFrame
        The table.
    columns : sequence of str
        The names of the columns, as `feature_columns` returns them.

    Returns
    -------
    ndarray of shape (n, D), float64
        Row-major, every value finite. True is 1 and False is 0.

    Raises
    ------
    TableError
        If a cell is empty, NaN or infinite, or for the reasons of `feature_columns`.
    """
    import polars

    names = feature_columns(frame, columns, [])
    matrix = np.empty((frame.height, len(names)))
    for position, name in enumerate(names):
        matrix[:, position] = frame[name].cast(polars.Float64).to_numpy()
    finite = np.isfinite(matrix)
    if finite.all():
        return matrix
    row, position = (int(index) for index in np.argwhere(~finite)[0])
    name = names[position]
    if frame[name][row] is None:
        fault = "empty"
    else:
        fault = "NaN" if np.isnan(matrix[row, position]) else "infinite"
    count = int(np.count_nonzero(~finite))
    total = "it is the only such cell" if count == 1 else f"{count} cells are empty or not finite"
    raise TableError(
        f"The cell in column {name!r}, row {row + 1} is {fault} ({total}): fill such cells, "
        "remove their rows, or exclude their columns."
    )


def label_column(
    frame: polars.DataFrame, name: str
) -> tuple[NDArray[np.int64] | NDArray[np.object_], NDArray[np.bool_]]:
    """Read the labels of the rows from a column, where some rows may have none.

    Parameters
    ----------
    frame : polars.DataFrame
        The table.
    name : str
        The column of labels: whole numbers, booleans (as 0 and 1) or text. Whole numbers
        stored as floats, as happens to a column with empty cells, are whole numbers.

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

    _check_exists(frame, name)
    column = frame[name]
    kind = column.dtype
    if kind == polars.Categorical or kind == polars.Enum or kind == polars.String:
        return _text_labels(column.cast(polars.String))
    if kind == polars.Boolean or kind == polars.Null or kind.is_integer():
        try:
            filled = column.cast(polars.Int64).fill_null(-1)
        except polars.exceptions.PolarsError as error:
            raise TableError(
                f"The labels in column {name!r} are too large for whole numbers of 64 bits: "
                "number the labels anew, or store them as text in a .parquet file."
            ) from error
        labels = filled.to_numpy().astype(np.int64)
        return labels, labels != -1
    if kind.is_numeric():
        return _whole_labels(column.cast(polars.Float64))
    raise TableError(
        f"The column {name!r} has the type {kind}, but labels are whole numbers or text: "
        "choose another column."
    )


def _read_text(source: Path, separator: str) -> polars.DataFrame:
    """Read .csv or .tsv, and mend what polars leaves as text or as rows."""
    import polars

    blank_lines = _checked_blank_lines(source)
    frame = polars.read_csv(source, separator=separator, infer_schema_length=None, glob=False)
    # Polars reads each blank line as a row of nulls. In a table of one column it may well be
    # one, and is how polars writes it.
    if blank_lines and frame.width > 1:
        frame = frame.head(max(frame.height - blank_lines, 0))
    frame = frame.with_columns(
        _number_if_padded(frame[name])
        for name, kind in frame.schema.items()
        if kind == polars.String
    )
    stripped = [name.strip() for name in frame.columns]
    if len(set(stripped)) == len(stripped):
        frame.columns = stripped
    return frame


def _checked_blank_lines(source: Path) -> int:
    """Count the blank lines at the end of a text file, and refuse one in UTF-16."""
    with open(source, "rb") as stream:
        if stream.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise TableError(f"{_shown(source)} is text in UTF-16: save it as UTF-8.")
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(size - 2**16, 0))
        tail = stream.read()
    line_ends = tail[len(tail.rstrip(b"\r\n")) :].count(b"\n")
    return max(line_ends - 1, 0)


def _number_if_padded(column: polars.Series) -> polars.Series:
    """Turn text such as " 2" or "+3" into numbers, if all of a column's cells allow it."""
    import polars

    text = column.str.strip_chars()
    text = text.set(text == "", None)
    filled = text.len() - text.null_count()
    if filled == 0:
        return column
    for kind in (polars.Int64, polars.Float64):
        numbers = text.cast(kind, strict=False)
        if numbers.len() - numbers.null_count() == filled:
            return numbers
    return column


def _read_npy(source: Path) -> polars.DataFrame:
    """Read a numeric array of one or two axes."""
    import polars

    # A file object, because numpy would otherwise keep an archive (.npz) open.
    with open(source, "rb") as stream:
        if stream.read(6) != b"\x93NUMPY":
            if stream.seek(0, os.SEEK_END) == 0:
                raise TableError(_empty_message(source))
            raise TableError(
                f"{_shown(source)} is not a .npy file, whatever its ending says: write it with "
                "numpy.save."
            )
        stream.seek(0)
        try:
            array = np.load(stream, allow_pickle=False)
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise TableError(
                f"{_shown(source)} holds Python objects, which are never unpickled here: save "
                "an array of numbers."
            ) from error
    if array.dtype.kind not in "biuf":
        raise TableError(
            f"{_shown(source)} holds values of type {array.dtype}: save an array of real "
            "numbers, or use .csv or .parquet."
        )
    if array.ndim not in (1, 2):
        raise TableError(
            f"{_shown(source)} holds an array of {array.ndim} axes: save one with rows and "
            "columns, or with rows only."
        )
    # Polars takes the machine's own byte order only, and not every version all float types.
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "f":
        array = array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64)
    table = array.reshape(len(array), -1) if array.size else array.reshape(0, 0)
    return polars.DataFrame(
        {str(index): np.ascontiguousarray(table[:, index]) for index in range(table.shape[1])}
    )


def _write_frame(frame: polars.DataFrame, stream: BinaryIO, ending: str) -> None:
    """Write all formats but .npy to an open file."""
    if ending == ".parquet":
        frame.write_parquet(stream)
    else:
        frame.write_csv(stream, separator=_SEPARATORS[ending])


def _to_array(frame: polars.DataFrame, target: Path) -> NDArray[Any]:
    """Turn a wholly numeric table into the array that .npy holds."""
    import polars

    if frame.width == 0:
        raise TableError(f"The table for {_shown(target)} has no columns: there is no array.")
    for name, kind in frame.schema.items():
        if not (kind.is_numeric() or kind == polars.Boolean):
            raise TableError(
                f"The column {name!r} is not numeric, so that {_shown(target)} cannot hold it: "
                "use .csv or .parquet."
            )
    whole = all(
        (kind.is_integer() or kind == polars.Boolean) and not frame[name].null_count()
        for name, kind in frame.schema.items()
    )
    arrays: list[NDArray[Any]] = []
    for series in frame:
        try:
            arrays.append(series.cast(polars.Int64 if whole else polars.Float64).to_numpy())
        except polars.exceptions.PolarsError as error:
            raise TableError(
                f"The column {series.name!r} holds numbers too large for {_shown(target)}: use "
                ".csv or .parquet."
            ) from error
    return arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=1)


def _text_labels(column: polars.Series) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Split text labels from blank cells."""
    filled = column.fill_null("")
    is_labelled = (~filled.str.strip_chars().is_in(["", "-1"])).to_numpy().astype(np.bool_)
    labels = np.empty(len(filled), dtype=np.object_)
    labels[:] = filled.to_list()
    labels[~is_labelled] = ""
    return labels, is_labelled


def _whole_labels(column: polars.Series) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Turn whole numbers stored as floats into integers, NaN and null into no label."""
    values = column.to_numpy()
    empty = np.isnan(values)
    # Beyond 2^53 a float no longer tells neighbouring integers apart.
    whole = empty | ((np.floor(values) == values) & (np.abs(values) <= _LARGEST_EXACT_INTEGER))
    if not whole.all():
        row = int(np.argmin(whole))
        raise TableError(
            f"The labels in column {column.name!r} must be whole numbers or text, but row "
            f"{row + 1} holds {values[row]}: choose another column, or round it."
        )
    labels = np.where(empty, -1.0, values).astype(np.int64)
    return labels, labels != -1


def _ending(path: Path) -> str:
    """Return the path's ending in lower case if it names a format."""
    ending = path.suffix.lower()
    if ending in ENDINGS:
        return ending
    fault = f"the ending {path.suffix!r}" if ending else "no ending"
    raise TableError(
        f"{_shown(path)} has {fault}, which names no format: use .csv, .tsv, .parquet or .npy."
    )


def _check_exists(frame: polars.DataFrame, name: str) -> None:
    """Raise TableError, with the nearest name, unless the table has the column."""
    if name in frame.columns:
        return
    message = f"The table has no column {name!r}"
    nearest = _nearest(name, frame.columns)
    if nearest is not None:
        message += f" (did you mean {nearest!r}?)"
    raise TableError(f"{message}: its columns are {_names_shown(frame.columns)}.")


def _nearest(name: str, names: Sequence[str]) -> str | None:
    """Return the name most like the one given, whatever its case, if one is like it."""
    by_lower = {other.strip().lower(): other for other in names}
    matches = difflib.get_close_matches(name.strip().lower(), by_lower, n=1)
    return by_lower[matches[0]] if matches else None


def _names_shown(names: Sequence[str]) -> str:
    """List the names, but at most a dozen."""
    shown = ", ".join(repr(name) for name in names[:_MOST_NAMES_SHOWN])
    hidden = len(names) - _MOST_NAMES_SHOWN
    return shown if hidden <= 0 else f"{shown} and {hidden} more"


def _check_numeric(column: polars.Series) -> None:
    """Raise TableError, with the first value that is no number, unless all are numbers."""
    import polars

    kind = column.dtype
    if kind.is_numeric() or kind == polars.Boolean:
        return
    if column.null_count() == column.len():
        raise TableError(
            f"The column {column.name!r} has no values: exclude it, or choose columns."
        )
    bad = column.is_not_null()
    if kind == polars.String:
        text = column.str.strip_chars()
        not_numbers = bad & text.cast(polars.Float64, strict=False).is_null()
        # All may be numbers stored as text, by a .parquet file: then the first is shown.
        bad = not_numbers if not_numbers.any() else bad
    row = int(bad.arg_true()[0])
    cell = column.slice(row, 1).to_list()[0]
    value = repr(cell) if isinstance(cell, str) else " ".join(str(cell).split())
    if len(value) > 60:
        value = f"{value[:60]}..."
    raise TableError(
        f"The column {column.name!r} is not numeric (row {row + 1} holds {value}, of type "
        f"{kind}): exclude it, or choose columns."
    )


def _empty_message(source: Path) -> str:
    return f"{_shown(source)} is empty: a table needs at least one row and one column."


def _shown(path: Path) -> str:
    return repr(str(path))


def _reason(error: BaseException) -> str:
    """Return the first line of an error's message, as part of a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:;, ") if lines else type(error).__name__
