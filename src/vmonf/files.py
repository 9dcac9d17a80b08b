"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only once it is complete.

    The bytes go to a temporary file in the same folder. It takes the name of `path` when the
    block ends without an error, and is removed when the block ends with one, in which case a
    file that was there before stays as it was.

    Parameters
    ----------
    path : path
        A symbolic link stays a link: the file that it points to is replaced.

    Yields
    ------
    binary file, open for writing

    Raises
    ------
    OSError
        If the file cannot be written there.
    """
    final = Path(os.path.realpath(path))
    temporary = final.with_name(f".{final.name[:200]}.{secrets.token_hex(8)}.part")
    try:
        # "x", so that no other file is overwritten; and the usual permissions apply.
        with open(temporary, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
