"""`vmonf reproduce`: the paper's experiments, and ours beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmonf.cli.common import console, errors_in_one_sentence, plain_table

if TYPE_CHECKING:
    from vmonf.experiments.ledger import Ledger

reproduce = typer.Typer(
    name="reproduce",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Run the paper's experiments, and ours beside them; write figures and results.",
)

Out = Annotated[Path, typer.Option(help="The folder to write to.")]
Seeds = Annotated[int, typer.Option(min=1, help="How many seeds, from 0 up.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="A short run: that it works, not what it reaches.")
]


@reproduce.command()
@errors_in_one_sentence
def pinwheel(out: Out = Path("vmonf-pinwheel"), seeds: Seeds = 10, quick: Quick = False) -> None:
    """Five wings without labels (figure 1): about ten minutes for ten seeds.

    A run that was stopped goes on from the fits that its results file holds.
    """
    from vmonf.experiments import pinwheel as experiment

    out.mkdir(parents=True, exist_ok=True)
    _show("pinwheel", experiment.run(out, seeds, quick), out)


@reproduce.command("two-circles")
@errors_in_one_sentence
def two_circles(
    out: Out = Path("vmonf-two-circles"), seeds: Seeds = 10, quick: Quick = False
) -> None:
    """Two circles with and without labels (figure 2): about 45 minutes for ten seeds.

    A run that was stopped goes on from the fits that its results file holds.
    """
    from vmonf.experiments import two_circles as experiment

    out.mkdir(parents=True, exist_ok=True)
    _show("two-circles", experiment.run(out, seeds, quick), out)


@reproduce.command()
@errors_in_one_sentence
def mnist(
    folder: Annotated[
        Path | None,
        typer.Option(
            envvar="VMONF_MNIST",
            help="The folder of MNIST's four IDX files; fetched from OpenML unless given.",
        ),
    ] = None,
    out: Out = Path("vmonf-mnist"),
    seeds: Seeds = 3,
    quick: Quick = False,
) -> None:
    """Digits 0 to 4, with and without labels (figure 3, table 1): one to two hours.

    On two cores our settings take one to two minutes a fit, k-means and the Gaussian mixtures
    some minutes, and the paper's 100 epochs, which come last, about 70 minutes. A run that was
    stopped goes on where it was, within a fit too.
    """
    from vmonf.experiments import mnist as experiment

    out.mkdir(parents=True, exist_ok=True)
    _show("mnist", experiment.run(out, folder, seeds, quick), out)


def _show(name: str, ledger: Ledger, out: Path) -> None:
    from vmonf.experiments import tables

    figures = tables.SHORT[name]
    shown = plain_table("", *(tables.HEADS[figure] for figure in figures))
    for row in tables.table(ledger.document, figures):
        shown.add_row(*row)
    printer = console()
    printer.print("\nOn fresh rows: mean over seeds [lowest, highest]; more in results.json")
    printer.print(shown)
    typer.echo(tables.PAPER[name])
    typer.echo("Files:")
    for path in sorted(out.iterdir()):
        typer.echo(f"  {path}")
