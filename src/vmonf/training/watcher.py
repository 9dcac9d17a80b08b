"""What may watch a training from outside: a progress bar, a checkpoint, a user's function."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmonf.training.loop import TrainingLoop


class Watcher:
    """Is told how far a training is. Each method does nothing unless a subclass defines it."""

    def on_begin(self, loop: TrainingLoop) -> None:
        """Before anything is trained; a state may be loaded here."""

    def on_start(self, loop: TrainingLoop) -> None:
        """After pretraining, before the first epoch; not where a state was loaded."""

    def on_epoch(self, loop: TrainingLoop) -> None:
        """After each epoch; its record is the last in ``loop.result.history``."""

    def on_end(self, loop: TrainingLoop) -> None:
        """After the last epoch, or when the training was stopped by an error."""
