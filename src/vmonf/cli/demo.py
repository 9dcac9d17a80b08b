"""`vmonf demo`: fit the pinwheel with the library, and the wine table with the command line."""

from __future__ import annotations

import contextlib
import json
import shlex
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from vmonf.cli.common import console, plain_table
from vmonf.cli.plot import save_figure


@dataclass(frozen=True)
class Outcome:
    """A row of the demo's table. Log-likelihoods are means over held-out rows, in nats per row."""

    data: str
    ours: float
    reference: float
    reference_name: str
    accuracy: float
    seconds: float


def demo(
    out: Annotated[Path, typer.Option("--out", help="The folder to write to.")] = Path(
        "vmonf-demo"
    ),
) -> None:
    """Fit toy and real data, and show the results.

    Writes models, tables and figures. The library fits the pinwheel, whose true density is known.
    The command line fits scikit-learn's wine table; the demo shows the commands.
    """
    out.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # An interrupted fit keeps its best model and only warns. The demo should stop instead.
        warnings.filterwarnings("error", message="Training was interrupted")
        try:
            outcomes = (_pinwheel(out), _wine(out))
        except UserWarning as warning:
            raise KeyboardInterrupt from warning
    _print(outcomes)
    typer.echo("Files:")
    for path in sorted(out.iterdir()):
        typer.echo(f"  {path}")


def _pinwheel(out: Path) -> Outcome:
    from vmonf import FlowMixture
    from vmonf.data import Pinwheel
    from vmonf.metrics import clustering_accuracy
    from vmonf.plots import plot

    typer.echo("Pinwheel: five wings, fitted without labels by the library.")
    pinwheel = Pinwheel()
    X, _ = pinwheel.sample(512, random_state=0)
    fresh, wing = pinwheel.sample(2000, random_state=1)
    began = time.perf_counter()
    mixture = FlowMixture(n_components=5, random_state=0, verbose=1).fit(X)
    seconds = time.perf_counter() - began
    mixture.save(out / "pinwheel.vmonf")
    for kind in ("regions", "density", "training"):
        save_figure(plot(mixture, X, kind=kind), out / f"pinwheel-{kind}.png")
    return Outcome(
        data="pinwheel",
        ours=mixture.score(fresh),
        reference=float(pinwheel.log_prob(fresh).mean()),
        reference_name="the true density",
        accuracy=clustering_accuracy(wing, mixture.predict(fresh)),
        seconds=seconds,
    )


def _wine(out: Path) -> Outcome:
    import numpy as np
    import polars
    from sklearn.datasets import load_wine
    from sklearn.model_selection import train_test_split

    from vmonf.data import write_table

    typer.echo("\nWine: 13 measurements of 178 wines of three cultivars, by the command line.")
    wine = load_wine()
    table = polars.DataFrame(wine.data, schema=list(wine.feature_names))
    table.insert_column(0, polars.Series("cultivar", wine.target_names[wine.target]))
    in_train, in_test = train_test_split(
        np.arange(len(table)), test_size=0.25, random_state=0, stratify=wine.target
    )
    train, test, model = out / "wine-train.csv", out / "wine-test.csv", out / "wine.vmonf"
    write_table(table[in_train], train)
    write_table(table[in_test], test)

    began = time.perf_counter()
    _run("fit", train, "-o", model, "--components", 3, "--exclude", "cultivar")
    seconds = time.perf_counter() - began
    _run("info", model, "--json", into=out / "wine-info.json")
    _run("predict", model, test, "-o", out / "wine-clusters.csv")
    _run("plot", model, test, "-o", out / "wine-pairs.png")
    _run(
        "plot", model, test, "-o", out / "wine-sizes.png", "--kind", "sizes", "--label", "cultivar"
    )
    question = ("evaluate", model, test, "--train", train, "--label", "cultivar")
    _run(*question)
    _run(*question, "--json", into=out / "wine-evaluation.json")

    answer = json.loads((out / "wine-evaluation.json").read_text())
    scores = {
        kind: score["log_likelihood"]
        for kind, score in answer["gaussian_mixtures"].items()
        if score["log_likelihood"] is not None
    }
    best = max(scores, key=lambda kind: scores[kind])
    kept = json.loads((out / "wine-info.json").read_text())["training"]["best_epoch"] > 0
    return Outcome(
        data="wine" if kept else "wine (flows dropped)",
        ours=answer["log_likelihood"],
        reference=scores[best],
        reference_name=f"scikit-learn's best Gaussian mixture ({best})",
        accuracy=answer["posterior"]["accuracy"],
        seconds=seconds,
    )


def _run(*arguments: object, into: Path | None = None) -> None:
    """Print a command and run it in this process, with its output in the file `into` if given."""
    from vmonf.cli import app

    words = [str(argument) for argument in arguments]
    redirection = "" if into is None else f" > {shlex.quote(str(into))}"
    typer.echo(f"\n$ vmonf {shlex.join(words)}{redirection}")
    with contextlib.ExitStack() as stack:
        if into is not None:
            stream = stack.enter_context(open(into, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(stream))
        exit_code = app(words, standalone_mode=False)
    if exit_code:
        raise typer.Exit(exit_code)


def _print(outcomes: tuple[Outcome, ...]) -> None:
    table = plain_table("", "vmonf", "reference", "accuracy", "seconds to fit")
    table.add_column("the reference is")
    for outcome in outcomes:
        table.add_row(
            outcome.data,
            f"{outcome.ours:.4f}",
            f"{outcome.reference:.4f}",
            f"{outcome.accuracy:.1%}",
            f"{outcome.seconds:.1f}",
            outcome.reference_name,
        )
    out = console()
    out.print("\nHeld-out log-likelihood (nats per row) and accuracy of fits without labels")
    out.print(table)
