"""Write a table to a file in parts, as they are computed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np

from vmonf.data.faults import TableError, reason
from vmonf.data.tables import SEPARATORS, checked_target, to_array
from vmonf.files import written_whole

if TYPE_CHECKING:
    import polars


class Write(Protocol):
    """Appends rows to a table."""

    def __call__(self, frame: polars.DataFrame) -> None:
        """Append a frame, which has the same columns as those before."""


@contextmanager
def written_in_parts(path: str | os.PathLike[str], n_rows: int) -> Iterator[Write]:
    """Open a file for a table that is written in parts, in the format of the file's ending.

    The file appears under its name when it is complete, and otherwise not at all. An existing
    file of this name is then unchanged. The formats are those of `vmonf.data.write_table`.

    Parameters
    ----------
    path : path
    n_rows : int
        Number of rows of the whole table.

    Yields
    ------
    function of a polars.DataFrame that appends its rows

    Raises
    ------
    TableError
        If the path is not one of a file to write, the format cannot hold the table, or the disk
        is full or fails.
    """
    import polars

    target, ending = checked_target(path)
    try:
        with written_whole(target) as stream:
            if ending == ".parquet":
                with _parquet(target, stream) as write:
                    yield write
            elif ending == ".npy":
                yield _Array(target, stream, n_rows)
            else:
                yield _Text(stream, SEPARATORS[ending])
    except (OSError, polars.exceptions.PolarsError) as error:
        raise TableError(
            f"'{target}' cannot be written ({reason(error)}): choose another place or format."
        ) from error


@contextmanager
def _parquet(target: Path, stream: BinaryIO) -> Iterator[Write]:
    """Write parts to files in a folder beside the target, and join these in the end.

    Polars writes no Parquet file in parts. It joins files without holding them in memory.
    """
    import polars

    folder = Path(os.path.realpath(target)).with_name(f".{secrets.token_hex(8)}.parts")
    folder.mkdir()
    n_parts = 0

    def write(frame: polars.DataFrame) -> None:
        nonlocal n_parts
        frame.write_parquet(folder / f"{n_parts:09}.parquet")
        n_parts += 1

    try:
        yield write
        joined = folder / "joined.parquet"
        if n_parts == 1:
            joined = folder / f"{0:09}.parquet"
        else:
            parts = [folder / f"{part:09}.parquet" for part in range(n_parts)]
            polars.scan_parquet(parts, glob=False).sink_parquet(joined)
        with open(joined, "rb") as whole:
            shutil.copyfileobj(whole, stream, 2**20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Text:
    """Appends lines to .csv or .tsv; the first frame also gives the header."""

    def __init__(self, stream: BinaryIO, separator: str) -> None:
        self.stream, self.separator = stream, separator
        self.is_first = True

    def __call__(self, frame: polars.DataFrame) -> None:
        frame.write_csv(self.stream, separator=self.separator, include_header=self.is_first)
        self.is_first = False


class _Array:
    """Appends to the array of .npy; the first frame gives its type and number of axes."""

    def __init__(self, target: Path, stream: BinaryIO, n_rows: int) -> None:
        self.target, self.stream, self.n_rows = target, stream, n_rows
        self.dtype: np.dtype[np.generic] | None = None

    def __call__(self, frame: polars.DataFrame) -> None:
        array = to_array(frame, self.target)
        if self.dtype is None:
            self.dtype = array.dtype
            header = np.lib.format.header_data_from_array_1_0(array)
            header["shape"] = (self.n_rows, *array.shape[1:])
            np.lib.format.write_array_header_1_0(self.stream, header)
        if array.dtype != self.dtype:
            raise TableError(
                f"'{self.target}' would hold whole numbers and others: use .csv or .parquet."
            )
        self.stream.write(np.ascontiguousarray(array).tobytes())
