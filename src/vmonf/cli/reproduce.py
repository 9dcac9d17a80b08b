"""`vmonf reproduce`: run the paper's experiments, with its settings and with ours."""

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
    help="Run the paper's experiments, with its settings and with ours; write figures and results.",
)

Out = Annotated[Path, typer.Option(help="The folder to write to.")]
Seeds = Annotated[int, typer.Option(min=1, help="The number of seeds, which start at 0.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="A short run, only to check that the experiment works.")
]


@reproduce.command()
@errors_in_one_sentence
def pinwheel(out: Out = Path("vmonf-pinwheel"), seeds: Seeds = 10, quick: Quick = False) -> None:
    """Fit five wings without labels (figure 1): about ten minutes for ten seeds.

    A run that was stopped resumes from the fits in its results file.
    """
    from vmonf.experiments import pinwheel as experiment

    out.mkdir(parents=True, exist_ok=True)
    _show("pinwheel", experiment.run(out, seeds, quick), out)


@reproduce.command("two-circles")
@errors_in_one_sentence
def two_circles(
    out: Out = Path("vmonf-two-circles"), seeds: Seeds = 10, quick: Quick = False
) -> None:
    """Fit two circles with and without labels (figure 2): about 45 minutes for ten seeds.

    A run that was stopped resumes from the fits in its results file.
    """
    from vmonf.experiments import two_circles as experiment

    out.mkdir(parents=True, exist_ok=True)
    _show("two-circles", experiment.run(out, seeds, quick), out)


@reproduce.command()
@errors_in_one_sentence
def components(
    out: Out = Path("vmonf-components"), seeds: Seeds = 10, quick: Quick = False
) -> None:
    """Consistency, unneeded components, and sizes of both parts: about 15 minutes for ten seeds.

    These are questions that the paper leaves open. A run that was stopped resumes from the fits
    in its results file.
    """
    from vmonf.experiments import components as experiment

    out.mkdir(parents=True, exist_ok=True)
    _show("components", experiment.run(out, seeds, quick), out)


@reproduce.command()
@errors_in_one_sentence
def mnist(
    folder: Annotated[
        Path | None,
        typer.Option(
            envvar="VMONF_MNIST",
            help="The folder of MNIST's four IDX files. By default, MNIST is fetched from OpenML.",
        ),
    ] = None,
    out: Out = Path("vmonf-mnist"),
    seeds: Seeds = 3,
    quick: Quick = False,
) -> None:
    """Fit digits 0 to 4, with and without labels (figure 3, table 1): one to two hours.

    On two cores, a fit with our settings takes one to two minutes, k-means and the Gaussian
    mixtures take a few minutes, and the paper's 100 epochs, which run last, take about 70 minutes.
    A run that was stopped resumes where it stopped, even within a fit.
    """
    from vmonf.experiments import mnist as experiment

    out.mkdir(parents=True, exist_ok=True)
    _show("mnist", experiment.run(out, folder, seeds, quick), out)


def _show(name: str, ledger: Ledger, out: Path) -> None:
    from vmonf.experiments import tables

    printer = console()
    printer.print("\nMean over seeds [lowest, highest] on fresh rows; more in results.json")
    for part in tables.parts_of(name):
        if part.title:
            printer.print(f"\n{part.title}")
        shown = plain_table("", *(tables.HEADS[figure] for figure in part.short))
        for row in tables.table(ledger.document, part.short, part.prefix):
            shown.add_row(*row)
        printer.print(shown)
    typer.echo(tables.PAPER[name])
    typer.echo("Files:")
    for path in sorted(out.iterdir()):
        typer.echo(f"  {path}")
