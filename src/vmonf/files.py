"""Output files: checks of a path before long work, and writes that leave no partial file."""

from __future__ import annotations

import glob
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def check_ending(path: str | os.PathLike[str], endings: Sequence[str]) -> str:
    """Return the ending of a path in lower case, if it is one of `endings`, such as ".png".

    Raises
    ------
    ValueError
        If the ending is not one of `endings`.
    """
    ending = Path(path).suffix.lower()
    if ending in endings:
        return ending
    fault = "no ending"
    if ending:
        fault = f"the ending '{Path(path).suffix}', which is not that of a known format"
    raise ValueError(f"'{path}' has {fault}: use {', '.join(endings[:-1])} or {endings[-1]}.")


def check_output(
    path: str | os.PathLike[str],
    endings: Sequence[str] = (),
    inputs: Sequence[str | os.PathLike[str]] = (),
) -> None:
    """Check that a file can be written to a path later. Nothing is written.

    Parameters
    ----------
    path : path
    endings : sequence of str
        The endings allowed, such as ".png". If empty, any ending is allowed.
    inputs : sequence of paths
        Files, folders and patterns of files that are read, and must not be replaced.

    Raises
    ------
    ValueError
        If the ending is not allowed, if the path is a folder or one of the inputs, or if the folder
        of the file does not exist or may not be written to.
    """
    if endings:
        check_ending(path, endings)
    if os.path.isdir(path):
        raise ValueError(f"'{path}' is a folder: add the name of a file to write in it.")
    if os.path.exists(path):
        for source in inputs:
            if any(os.path.samefile(path, file) for file in _files_of(source)):
                raise ValueError(f"'{path}' is read, and would be replaced: choose another name.")
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.exists(folder):
        raise ValueError(f"The folder '{folder}' does not exist: create it first.")
    if not os.path.isdir(folder):
        raise ValueError(f"'{folder}' is not a folder: choose another place to write to.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"The folder '{folder}' may not be written to: choose another folder.")


def _files_of(source: str | os.PathLike[str]) -> Iterator[str]:
    """The files that a path, a folder or a pattern stands for."""
    path = os.fspath(source)
    for found in [path] if os.path.exists(path) else glob.iglob(path, recursive=True):
        if os.path.isdir(found):
            yield from (str(file) for file in Path(found).rglob("*") if file.is_file())
        else:
            yield found


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when it is complete.

    The bytes are written to a temporary file in the same folder. If the block ends without an
    error, the temporary file is renamed to `path`. Otherwise it is removed, and an existing file
    at `path` is unchanged.

    Parameters
    ----------
    path : path
        If it is a symbolic link, the file that it points to is replaced.

    Yields
    ------
    binary file, open for writing

    Raises
    ------
    OSError
        If the file cannot be written there.
    """
    final = Path(os.path.realpath(path))
    temporary = final.with_name(f".{secrets.token_hex(8)}.part")
    try:
        # Mode "x" never overwrites another file, and gives the new file the usual permissions.
        with open(temporary, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
