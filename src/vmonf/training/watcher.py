"""Watchers of a training: the base of the progress bar, checkpoints and users' functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmonf.training.loop import TrainingLoop


class Watcher:
    """Base of classes whose methods the training loop calls. Here each method does nothing."""

    def on_begin(self, loop: TrainingLoop) -> None:
        """Called before anything is trained. A state may be loaded here."""

    def on_start(self, loop: TrainingLoop) -> None:
        """Called after pretraining and before the first epoch, but not if a state was loaded."""

    def on_epoch(self, loop: TrainingLoop) -> None:
        """Called after each epoch, whose record is the last in ``loop.result.history``."""

    def on_end(self, loop: TrainingLoop) -> None:
        """Called after the last epoch, or when an error or Ctrl-C stopped the training."""
