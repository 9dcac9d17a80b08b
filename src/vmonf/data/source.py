"""Tables that are read in parts: Parquet files, polars LazyFrames and Arrow datasets.

A `Source` is a table of known length and columns. It is read in the order of its rows, or one
stretch of consecutive rows at a time, in any order. Only the columns that are asked for are read,
and only a few million values are held at once.
"""

from __future__ import annotations

import copy
import glob
import os
import shutil
import sys
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from vmonf.data.faults import TableError, reason
from vmonf.data.tables import read_table

if TYPE_CHECKING:
    import polars
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

#: What `open_source` opens. The last stands for a polars.LazyFrame or a pyarrow.dataset.Dataset.
Readable: TypeAlias = "str | os.PathLike[str] | Source | Any"

#: Rows of a stretch: so few that a buffer holds hundreds of them, since a table may be sorted.
STRETCH_ROWS = 4096
#: The same for files that are not on this machine, since each stretch is a request.
REMOTE_STRETCH_ROWS = 65_536
#: About this many values are held at once when a source is read in order.
VALUES_AT_ONCE = 2**20


class Source(ABC):
    """A table that is read in parts.

    Attributes
    ----------
    name : str
        How messages call it.
    columns : list of str
    stretches : int array of shape (S,)
        Number of rows of each stretch, in the order of the rows.
    is_in_memory : bool
        Whether all rows are held in memory, since they came from a text or .npy file.
    """

    name: str
    columns: list[str]
    stretches: IntArray
    is_in_memory: bool = False

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.stretches.sum())

    @property
    def starts(self) -> IntArray:
        """The first row of each stretch: shape (S,)."""
        starts: IntArray = np.cumsum(self.stretches) - self.stretches
        return starts

    @abstractmethod
    def stretch(self, index: int, columns: Sequence[str]) -> polars.DataFrame:
        """Some columns of the rows of one stretch."""

    @abstractmethod
    def in_order(self, columns: Sequence[str]) -> Iterator[polars.DataFrame]:
        """Some columns of all rows, in order, in frames that are not empty."""

    def select(self, columns: Sequence[str]) -> Source:
        """The same source with some of its columns, in this order."""
        chosen = copy.copy(self)
        chosen.columns = list(columns)
        chosen._whole = self  # type: ignore[attr-defined] # a temporary file lives as long as it
        return chosen

    def head(self) -> polars.DataFrame:
        """All columns of the first rows, at most 100; of a table in memory, of all its rows.

        A column is text if any of its cells is, and the message about it names this cell.
        """
        rows = self.stretch(0, self.columns)
        return rows if self.is_in_memory else rows.head(100)


def is_source(data: object) -> bool:
    """Whether `open_source` opens the data, and scikit-learn would not take them as rows."""
    return isinstance(data, (str, os.PathLike, Source)) or _is_lazy(data) or _is_dataset(data)


def open_source(data: Readable) -> Source:
    """Open a table to read it in parts.

    Parameters
    ----------
    data : path, polars.LazyFrame, pyarrow.dataset.Dataset or Source
        A path is that of a Parquet file; of a folder, whose Parquet files are read in the order
        of their paths, also those in its folders; a pattern, such as "data/2024-*.parquet"; an
        address that polars reads, such as "s3://bucket/data/*.parquet"; or a file that
        `vmonf.data.read_table` reads, which is then held in memory. A LazyFrame that is not a
        scan of Parquet files is computed once, into a temporary Parquet file. The rows of an Arrow
        dataset are in the order of its fragments.

    Raises
    ------
    TableError
        If nothing is there, it cannot be read, or there are no rows or columns.
    """
    if isinstance(data, Source):
        return data
    if _is_lazy(data):
        source: Source = _of_lazy_frame(data)
    elif _is_dataset(data):
        source = _Dataset(data)
    else:
        source = _of_path(data)
    if source.n_rows == 0 or not source.columns:
        raise TableError(f"{source.name} is empty: a table needs at least one row and one column.")
    return source


class _Scans(Source):
    """Lazy tables, one after the other, of which polars reads any consecutive rows.

    Stretches have the same length whatever the lengths of the tables, so that a fit does not
    depend on how the rows are divided into files.
    """

    def __init__(
        self, name: str, names: Sequence[str], scans: Sequence[polars.LazyFrame], rows: int
    ) -> None:
        import polars

        self.name, self._names, self._scans = name, list(names), list(scans)
        with _errors_of(names[0]):
            self.columns = scans[0].collect_schema().names()
        counts = []
        for each, scan in zip(self._names, self._scans, strict=True):
            with _errors_of(each):
                counts.append(scan.select(polars.len()).collect().item())
        self._ends = np.cumsum(counts, dtype=np.int64)
        n_rows = int(self._ends[-1])
        starts = np.arange(0, n_rows, rows, dtype=np.int64)
        self.stretches = np.minimum(rows, n_rows - starts)

    def stretch(self, index: int, columns: Sequence[str]) -> polars.DataFrame:
        start = index * int(self.stretches[0])
        return self._read(start, start + int(self.stretches[index]), columns)

    def in_order(self, columns: Sequence[str]) -> Iterator[polars.DataFrame]:
        rows = _rows_at_once(columns, int(self.stretches[0]))
        for start in range(0, self.n_rows, rows):
            yield self._read(start, min(start + rows, self.n_rows), columns)

    def _read(self, start: int, end: int, columns: Sequence[str]) -> polars.DataFrame:
        """The rows from `start` to before `end`, which may be in several of the tables."""
        import polars

        parts = []
        first = int(np.searchsorted(self._ends, start, side="right"))
        for index in range(first, len(self._scans)):
            begin = int(self._ends[index - 1]) if index else 0
            low, high = max(start, begin), min(end, int(self._ends[index]))
            if low >= end:
                break
            with _errors_of(self._names[index]):
                part = self._scans[index].select(columns).slice(low - begin, high - low).collect()
            if part.height < high - low:
                raise TableError(f"{self._names[index]} changed while it was read: begin again.")
            if part.height:
                parts.append(part)
        with _errors_of(self.name):
            return parts[0] if len(parts) == 1 else polars.concat(parts, how="vertical_relaxed")


class _Dataset(Source):
    """An Arrow dataset. Its stretches are the row groups of Parquet files, or whole fragments."""

    def __init__(self, dataset: Any) -> None:
        self.name = "The Arrow dataset"
        self.columns = list(dataset.schema.names)
        self._schema = dataset.schema
        self._parts: list[Any] = []
        with _errors_of(self.name):
            counts: list[int] = []
            for fragment in dataset.get_fragments():
                if hasattr(fragment, "split_by_row_group"):
                    groups = fragment.split_by_row_group()
                    self._parts += groups
                    # `count_rows` of a row group would be that of its file.
                    counts += [group.row_groups[0].num_rows for group in groups]
                else:
                    self._parts.append(fragment)
                    counts.append(fragment.count_rows())
        self._parts = [part for part, count in zip(self._parts, counts, strict=True) if count]
        self.stretches = np.array([count for count in counts if count], dtype=np.int64)

    def stretch(self, index: int, columns: Sequence[str]) -> polars.DataFrame:
        import polars

        with _errors_of(self.name):
            table = self._parts[index].to_table(schema=self._schema, columns=list(columns))
            frame = polars.from_arrow(table)
        assert isinstance(frame, polars.DataFrame)
        return frame

    def in_order(self, columns: Sequence[str]) -> Iterator[polars.DataFrame]:
        for index in range(len(self._parts)):
            yield from self.stretch(index, columns).iter_slices(_rows_at_once(columns, 1))


def _of_path(data: str | os.PathLike[str]) -> Source:
    """The source of a path, which may be a folder, a pattern or an address."""
    import polars

    text = os.fspath(data)
    if "://" in text:
        return _Scans(text, [text], [polars.scan_parquet(text)], REMOTE_STRETCH_ROWS)
    path = Path(text)
    if path.is_dir():
        found = sorted(
            each
            for each in path.rglob("*.parquet")
            if each.is_file() and not _is_hidden(each.relative_to(path))
        )
        if not found:
            raise TableError(
                f"'{text}' is a folder, not a file, and has no .parquet files: name a table in it."
            )
    elif not path.exists() and glob.has_magic(text):
        found = sorted(Path(each) for each in glob.glob(text, recursive=True))
        found = [each for each in found if each.is_file()]
        if not found:
            raise TableError(f"No file matches '{text}': check the pattern and the folder.")
        others = [each for each in found if each.suffix.lower() != ".parquet"]
        if others:
            raise TableError(
                f"'{text}' matches '{others[0]}', which does not end in .parquet: choose a pattern "
                "of Parquet files alone."
            )
    elif path.suffix.lower() == ".parquet" and path.is_file():
        found = [path]
    else:
        frame = read_table(path)
        source = _Scans(f"'{text}'", [f"'{text}'"], [frame.lazy()], STRETCH_ROWS)
        source.is_in_memory = True
        return source
    scans = [polars.scan_parquet(each, glob=False) for each in found]
    return _Scans(f"'{text}'", [f"'{each}'" for each in found], scans, STRETCH_ROWS)


def _of_lazy_frame(lazy: polars.LazyFrame) -> Source:
    import polars

    name = "The LazyFrame"
    with _errors_of(name):
        plan = lazy.slice(1, 1).explain()
        if _reads_slices(plan):
            rows = REMOTE_STRETCH_ROWS if "://" in plan else STRETCH_ROWS
            return _Scans(name, [name], [lazy], rows)
        folder = tempfile.mkdtemp(prefix="vmonf-")
        path = Path(folder, "table.parquet")
        try:
            lazy.sink_parquet(path, row_group_size=REMOTE_STRETCH_ROWS)
            source = _Scans(name, [name], [polars.scan_parquet(path, glob=False)], STRETCH_ROWS)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    # Also at the end of the program.
    weakref.finalize(source, shutil.rmtree, folder, ignore_errors=True)
    return source


def _reads_slices(plan: str) -> bool:
    """Whether polars, by its plan for row 1 alone, reads this row alone."""
    operations = [line.strip() for line in plan.splitlines() if line.strip()]
    is_in_memory = len(operations) == 1 and operations[0].startswith("DF [")
    scans = [line for line in operations if "SCAN [" in line]
    is_one_scan = len(scans) == 1 and scans[0].startswith("Parquet SCAN [")
    filters = [
        line for line in operations if "SELECTION: " in line and "SELECTION: None" not in line
    ]
    slices = {"SLICE: (1, 1)", "SLICE: Positive { offset: 1, len: 1 }"} & set(operations)
    return not filters and (is_in_memory or (is_one_scan and bool(slices)))


def _rows_at_once(columns: Sequence[str], multiple: int) -> int:
    """Number of rows to read at once, a multiple of a number of rows."""
    return max(1, VALUES_AT_ONCE // max(1, len(columns)) // multiple) * multiple


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _is_lazy(data: object) -> TypeGuard[polars.LazyFrame]:
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(data, polars.LazyFrame)


def _is_dataset(data: object) -> bool:
    dataset = sys.modules.get("pyarrow.dataset")
    return dataset is not None and isinstance(data, dataset.Dataset)


@contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Report what polars, pyarrow and the system raise as a `TableError`."""
    import polars

    try:
        yield
    except TableError:
        raise
    except (
        OSError,
        ValueError,
        polars.exceptions.PolarsError,
        polars.exceptions.PanicException,
    ) as error:
        raise TableError(
            f"{name} cannot be read ({reason(error)}): check that it is complete, that its ending "
            "matches its content, that all files have the same columns, and that it is still there."
        ) from error
