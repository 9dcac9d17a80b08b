"""Checkpoints: files from which a training continues after a crash or Ctrl-C."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vmonf.storage import ModelFileError, read_checkpoint, write_checkpoint
from vmonf.training import Watcher

if TYPE_CHECKING:
    from vmonf.training import TrainingLoop

#: Least number of seconds between two writes, so that the writes take little time when epochs
#: are short.
INTERVAL = 30.0


class Checkpoint(Watcher):
    """Keeps the state of a training in a file.

    Parameters
    ----------
    path : path
    fingerprint : str
        Identifies the rows, settings and seed. A training continues only from a checkpoint with
        the same fingerprint.
    """

    def __init__(self, path: str | os.PathLike[str], fingerprint: str) -> None:
        self.path = Path(path)
        self.fingerprint = fingerprint
        self._written = time.monotonic()

    def on_begin(self, loop: TrainingLoop) -> None:
        """Load the state if the file exists.

        Raises
        ------
        vmonf.storage.ModelFileError
            If the file is not a checkpoint, or is one of other rows, settings or another seed.
        """
        if not self.path.exists():
            return
        document, tensors = read_checkpoint(self.path)
        if document.pop("fingerprint") != self.fingerprint:
            raise ModelFileError(
                f"{self.path} is the checkpoint of another fit (other rows, settings or "
                "random_state): remove it, or choose another file."
            )
        loop.load_state(document, tensors)

    def on_epoch(self, loop: TrainingLoop) -> None:
        """Write the state if `INTERVAL` seconds have passed since the last write, or at the end.

        Raises
        ------
        vmonf.storage.ModelFileError
            If the file cannot be written.
        """
        is_last = loop.result.converged or loop.epoch == loop.max_epochs
        if is_last or time.monotonic() - self._written >= INTERVAL:
            document, tensors = loop.state()
            write_checkpoint(self.path, document | {"fingerprint": self.fingerprint}, tensors)
            self._written = time.monotonic()
