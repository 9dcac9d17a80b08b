"""The command line: `vmonf fit`, `predict`, `score`, `sample` and the other verbs.

Each verb has one file; `common` holds what they share. torch, polars and other packages that are
slow to import are imported inside the verbs, so that `vmonf --help` is fast.

Tables, JSON and other results go to standard output; progress, remarks and errors go to standard
error. The exit code is 0 for success, 1 for a failure, 2 for bad usage, 130 for Ctrl-C
and 143 for SIGTERM.
"""

from typing import Annotated

import typer

from vmonf import __version__
from vmonf.cli.common import errors_in_one_sentence
from vmonf.cli.demo import demo
from vmonf.cli.evaluate import evaluate
from vmonf.cli.fit import fit
from vmonf.cli.info import info
from vmonf.cli.plot import plot
from vmonf.cli.predict import predict
from vmonf.cli.reproduce import reproduce
from vmonf.cli.sample import sample
from vmonf.cli.score import score
from vmonf.cli.toy import toy

__all__ = ["app", "main"]

app = typer.Typer(
    name="vmonf",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
    # Python itself shows the stack trace, and only if VMONF_DEBUG is set.
    pretty_exceptions_enable=False,
)

for verb in (fit, predict, score, sample, plot, info, evaluate, toy, demo):
    app.command()(errors_in_one_sentence(verb))

app.add_typer(reproduce)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vmonf {__version__}")
        raise typer.Exit


@app.callback()
def _vmonf(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Mixtures of normalizing flows: exact densities, clusters, samples.

    Fit a model to a table, then use it: `vmonf fit train.csv -o wine.vmonf --components 3`,
    `vmonf predict wine.vmonf test.csv -o clusters.csv`. The ending of a table's file gives its
    format: .csv, .tsv, .parquet or .npy. Every verb has its own --help.
    """


def main() -> None:
    """Run the command line."""
    app(prog_name="vmonf")
