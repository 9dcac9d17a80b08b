"""The progress bar of a fit, on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmonf.training import Watcher

if TYPE_CHECKING:
    from rich.progress import Progress

    from vmonf.training import TrainingLoop


class ProgressBar(Watcher):
    """Shows the epochs of each training, and the scores of the model.

    Parameters
    ----------
    n_restarts : int
        Number of trainings in the fit.
    """

    def __init__(self, n_restarts: int = 1) -> None:
        self.n_restarts = n_restarts
        self.restart = 0
        self.bar: Progress | None = None

    def on_begin(self, loop: TrainingLoop) -> None:
        """Show a new bar for a training."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.restart += 1
        title = "Training"
        if self.n_restarts > 1:
            title += f", start {self.restart} of {self.n_restarts}"
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("at most"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(stderr=True),
        )
        # With a deadline the bar shows the time.
        total = loop.max_epochs if loop.deadline is None else 100
        self.bar.add_task(title, total=total, figures="")
        self.bar.start()

    def on_epoch(self, loop: TrainingLoop) -> None:
        """Show the scores of the epoch."""
        record = loop.result.history[-1]
        figures = (
            f"log p {record.log_likelihood:.3f}  ELBO {record.elbo:.3f}  "
            f"least used {min(record.component_use):.0%}"
        )
        if record.temperature != 1:
            figures += f"  T {record.temperature:.2f}"
        if self.bar is not None:
            done = max(record.epoch / loop.max_epochs, 1 - loop.time_left)
            completed = record.epoch if loop.deadline is None else round(100 * done)
            self.bar.update(self.bar.task_ids[0], completed=completed, figures=figures)

    def on_end(self, loop: TrainingLoop) -> None:
        """Stop the bar, which stays visible."""
        if self.bar is not None:
            self.bar.stop()
