"""Tables in text files as people have them: encodings, separators, headers, missing cells.

What is taken for granted (a column without a name holds row numbers, `;` separates) is said in a
warning. What cannot be known is refused.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vmonf.data.faults import TableError

# Polars is imported inside the functions, so that `vmonf --help` is fast.
if TYPE_CHECKING:
    import polars

#: Texts that stand for a missing value in a column whose other cells are numbers.
MISSING = (
    "NA", "N/A", "n/a", "na", "<NA>", "#N/A", "NaN", "nan", "NULL", "Null", "null", "None", "none",
    "?", "-", "--", ".", "missing",
)  # fmt: skip

#: First bytes of files of other formats, and what to do about them.
OTHER_FORMATS = {
    b"PAR1": "a Parquet file: name it .parquet",
    b"\x93NUMPY": "an array of numpy: name it .npy",
    b"PK\x03\x04": "a zip archive or a spreadsheet: save its table as CSV",
    b"\x1f\x8b": "compressed by gzip: decompress it first",
    b"BZh": "compressed by bzip2: decompress it first",
    b"\xfd7zXZ": "compressed by xz: decompress it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: decompress it first",
    b"\x89HDF": "an HDF5 file: save its table as CSV or Parquet",
    b"SQLite format 3": "a database: save its table as CSV",
    b"ARROW1": "an Arrow file: save it as Parquet",
    b"%PDF": "a PDF document: save its table as CSV",
    b"<!DOCTYPE": "a web page: download the table itself",
    b"<html": "a web page: download the table itself",
}

SEPARATORS = {",": "','", ";": "';'", "\t": "tabs", "|": "'|'"}

_SAMPLE_BYTES = 2**16
_SAMPLE_ROWS = 50
_BYTES_AT_ONCE = 2**20
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_DECIMAL_COMMA = r"^[+-]?\d*,\d+([eE][+-]?\d+)?$|^[+-]?\d+$"


def read_text(source: Path, separator: str) -> polars.DataFrame:
    """Read .csv or .tsv; see `vmonf.data.tables.read_table`.

    Parameters
    ----------
    source : Path
    separator : str
        What the file's ending stands for. Another one is used, with a warning, if the first line
        has none of it.

    Raises
    ------
    TableError
        If the file is not text, has no header, or ends within quotation marks.
    OSError, polars.exceptions.PolarsError
        If the file cannot be read.
    """
    import polars

    content = _content(source)
    size, start, end = _both_ends(content)
    if not start.strip(b"\r\n") and size == len(start):
        return polars.DataFrame()
    layout = _layout(source, start, separator)
    options: dict[str, Any] = {"has_header": False, "skip_rows": 1} if layout.is_short else {}
    options |= {"separator": layout.separator, "glob": False, "raise_if_empty": False}
    try:
        frame = polars.read_csv(content, infer_schema_length=None, **options)
    except polars.exceptions.ComputeError as error:
        # Polars takes digits of other scripts for numbers, and then does not read them.
        if "could not parse" not in str(error):
            raise
        frame = polars.read_csv(content, infer_schema_length=0, **options)
    # Polars reads each blank line as a row of nulls, which is right only for a single column.
    blank_lines = end[len(end.rstrip(b"\r\n")) :].count(b"\n") - 1
    if blank_lines > 0 and frame.width > 1:
        frame = frame.head(max(frame.height - blank_lines, 0))
    frame = _named(source, frame, layout)
    numbers = {name: _numbers(frame[name], layout.separator) for name in frame.columns}
    commas = [repr(name) for name, (_, has_commas) in numbers.items() if has_commas]
    if commas:
        listed = ", ".join(commas[:5]) + (", ..." if len(commas) > 5 else "")
        warnings.warn(
            f"'{source}' has decimal commas, which are read as points: column {listed}.",
            stacklevel=4,
        )
    return frame.with_columns(column for column, _ in numbers.values())


@dataclass(frozen=True)
class _Layout:
    """How the lines of a file are laid out.

    Attributes
    ----------
    separator : str
    names : list of str
        A name for each column, without blanks around it; "" where there is none.
    is_short : bool
        Whether each row has one cell more than the header: the name of the row, as R writes it, or
        an empty last cell.
    """

    separator: str
    names: list[str]
    is_short: bool


def _content(source: Path) -> Path | bytes:
    """The file, or its bytes in UTF-8 if it has another encoding.

    Raises
    ------
    TableError
        If it is a file of another format, or a quotation mark has no end.
    """
    with open(source, "rb") as stream:
        start = stream.read(_SAMPLE_BYTES)
        for magic, what in OTHER_FORMATS.items():
            if start.startswith(magic):
                raise TableError(f"'{source}' is not text, but {what}.")
        for mark, encoding in (
            (codecs.BOM_UTF32_LE, "utf-32"),
            (codecs.BOM_UTF16_LE, "utf-16"),
            (codecs.BOM_UTF16_BE, "utf-16"),
        ):
            if start.startswith(mark):
                try:
                    return (start + stream.read()).decode(encoding).encode()
                except UnicodeDecodeError as error:
                    raise TableError(
                        f"'{source}' begins as text in {encoding.upper()}, but is not: save it as "
                        "UTF-8."
                    ) from error
        if _CONTROL.search(start):
            raise TableError(
                f"'{source}' is not text in UTF-8: save the table as CSV in UTF-8, or give it the "
                "ending of its format."
            )
        decoder = codecs.getincrementaldecoder("utf-8")()
        n_marks, part = 0, start
        try:
            while part:
                n_marks += part.count(b'"')
                decoder.decode(part)
                part = stream.read(_BYTES_AT_ONCE)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            warnings.warn(
                f"'{source}' is not text in UTF-8, and is read as Windows-1252 (Latin-1): check "
                "the names, or save it as UTF-8.",
                stacklevel=5,
            )
            stream.seek(0)
            data = stream.read()
            n_marks = data.count(b'"')
            try:
                text = data.decode("cp1252")
            except UnicodeDecodeError:
                text = data.decode("latin-1")
            _check_marks(source, n_marks)
            return text.encode()
    _check_marks(source, n_marks)
    return source


def _check_marks(source: Path, n_marks: int) -> None:
    if n_marks % 2:
        raise TableError(
            f"'{source}' has a quotation mark without its end (it has {n_marks}): the file may be "
            "cut off; complete it, or remove the mark."
        )


def _both_ends(content: Path | bytes) -> tuple[int, bytes, bytes]:
    """The number of bytes, the first of them, and the last."""
    with open(content, "rb") if isinstance(content, Path) else io.BytesIO(content) as stream:
        start = stream.read(_SAMPLE_BYTES)
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(size - _SAMPLE_BYTES, 0))
        return size, start, stream.read()


def _layout(source: Path, start: bytes, separator: str) -> _Layout:
    """Find separator and header from the first bytes of a file.

    Raises
    ------
    TableError
        If the first line holds data, or a name occurs twice.
    """
    text = start.decode("utf-8-sig", errors="ignore")
    lines = text.splitlines()
    lines = lines[:-1] if len(start) == _SAMPLE_BYTES and len(lines) > 1 else lines
    found = _separator(lines[0], separator)
    if found != separator:
        warnings.warn(
            f"'{source}' has no {SEPARATORS[separator]} in its first line, and is read as "
            f"separated by {SEPARATORS[found]}.",
            stacklevel=6,
        )
    cells = list(csv.reader(lines[: _SAMPLE_ROWS + 1], delimiter=found))
    names = [name.strip() for name in cells[0]] if cells else []
    rows = [row for row in cells[1:] if any(cell.strip() for cell in row)]
    _check_is_header(source, names, rows)
    for name, count in Counter(names).items():
        if count > 1 and name:
            raise TableError(f"'{source}' has {count} columns named {name!r}: give each its name.")
    longer = bool(rows) and all(len(row) == len(names) + 1 for row in rows)
    if longer and all(not row[-1].strip() for row in rows):
        return _Layout(found, [*names, ""], True)
    if longer and len(rows) > 1 and len({row[0] for row in rows}) == len(rows):
        return _Layout(found, ["", *names], True)
    return _Layout(found, names, False)


def _separator(header: str, usual: str) -> str:
    """The usual separator if the header has it, and otherwise the one that it has most often."""
    outside = re.sub(r'"[^"]*"', "", header)
    if usual in outside:
        return usual
    count = Counter({other: outside.count(other) for other in SEPARATORS})
    other, n = count.most_common(1)[0]
    return other if n else usual


def _check_is_header(source: Path, names: list[str], rows: list[list[str]]) -> None:
    """Refuse a first line that is like the others: a number above each column of numbers."""
    n_columns = min([len(names), *map(len, rows)])
    of_numbers = [
        j for j in range(n_columns) if rows and all(_is_number(row[j], blank=True) for row in rows)
    ]
    above = [names[j] for j in of_numbers]
    if not above or not all(_is_number(name) for name in above):
        return
    values = [float(name) for name in above]
    steps = set(np.diff(values).round(9).tolist())
    counted = values == list(range(len(values))) or (
        len(values) > 1 and values == list(range(1, len(values) + 1))
    )
    if counted or (len(values) > 2 and len(steps) == 1 and steps.pop() > 0):  # such as years
        return
    shown = ", ".join(above[:4]) + (", ..." if len(above) > 4 else "")
    raise TableError(
        f"'{source}' has numbers in its first line ({shown}), where names are expected: if they "
        "are data, add a line of names above; if they are names, put a letter before them."
    )


def _is_number(text: str, blank: bool = False) -> bool:
    text = text.strip()
    if not text or text in MISSING:
        return blank
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _named(source: Path, frame: polars.DataFrame, layout: _Layout) -> polars.DataFrame:
    """The frame with the names of the header, without the columns that have none."""
    names = layout.names
    if frame.width != len(names):  # a header of more lines than one: polars has read it
        return frame
    unnamed = [j for j, name in enumerate(names) if name == "" or name == "Unnamed: 0"]
    placed = [f"\0{j}" if j in unnamed else name for j, name in enumerate(names)]
    frame = frame.rename(dict(zip(frame.columns, placed, strict=True)))
    left_out = [j for j in unnamed if frame[placed[j]].null_count() < frame.height]
    if left_out == [0]:
        warnings.warn(
            f"The first column of '{source}' has no name: it is taken for the numbers or names of "
            "the rows and left out. If it is data, give it a name.",
            stacklevel=4,
        )
    elif left_out:
        listed = ", ".join(str(j + 1) for j in left_out[:5])
        warnings.warn(
            f"Columns of '{source}' without a name are left out (column {listed} of "
            f"{frame.width}): give them names if they are data.",
            stacklevel=4,
        )
    return frame.drop([placed[j] for j in unnamed])


def _numbers(column: polars.Series, separator: str) -> tuple[polars.Series, bool]:
    """Convert text such as " 2", "+3" or "NA" to numbers if the whole column allows it.

    Returns
    -------
    column : Series
        Numbers, or the column as it was.
    has_commas : bool
        Whether it had decimal commas, which count as such unless commas separate the cells.
    """
    import polars

    if column.dtype != polars.String:
        return column, False
    text = column.str.strip_chars()
    is_missing = text.is_in(["", *MISSING]).fill_null(True)
    text = text.set(is_missing, None)
    if text.null_count() == len(text):
        return column, False
    for kind in (polars.Int64, polars.Float64):
        numbers = text.cast(kind, strict=False)
        if numbers.null_count() == text.null_count():
            return numbers, False
    if separator != "," and text.drop_nulls().str.contains(_DECIMAL_COMMA).all():
        return text.str.replace(",", ".", literal=True).cast(polars.Float64), True
    return column, False
