"""The progress bar of a fit, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vmonf.training import Progress


@contextmanager
def epoch_bar(
    verbose: int, n_epochs: int, restart: int, n_restarts: int
) -> Iterator[Callable[[Progress], None]]:
    """Give a function to call after each epoch; without `verbose` it shows nothing."""
    if not verbose:
        yield lambda progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("at most"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    title = "Training" if n_restarts == 1 else f"Training, start {restart + 1} of {n_restarts}"
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=n_epochs, figures="")

        def show(progress: Progress) -> None:
            figures = (
                f"log p {progress.log_likelihood:.3f}  ELBO {progress.elbo:.3f}  "
                f"least used {min(progress.component_use):.0%}"
            )
            if progress.temperature != 1:
                figures += f"  T {progress.temperature:.2f}"
            bar.update(task, completed=progress.epoch, figures=figures)

        yield show
