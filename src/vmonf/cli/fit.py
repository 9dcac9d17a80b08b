"""`vmonf fit`: fit a mixture to a table and write the model."""

from __future__ import annotations

import ast
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmonf.cli.common import (
    BigData,
    Json,
    Quiet,
    joined,
    print_json,
    remark,
    split_names,
)
from vmonf.files import check_output

if TYPE_CHECKING:
    from vmonf import FlowMixture

#: With more features, the start takes so long that it is announced: it has no progress bar.
MANY_FEATURES = 256
#: Parameters of FlowMixture that have their own option; --set refuses them.
OPTIONS = {
    "n_components": "--components",
    "flow": "--flow",
    "weights": "--weights",
    "init": "--init",
    "n_init": "--restarts",
    "max_epochs": "--max-epochs",
    "max_seconds": "--max-seconds",
    "checkpoint": "--checkpoint",
    "bounds": "--bounds",
    "periodic": "--periodic",
    "missing": "--missing",
    "device": "--device",
    "random_state": "--seed",
    "verbose": "--quiet",
}
#: What the values must be that an option gives to columns.
_FORMS = {
    "--bounds": "must be a pair of numbers, the lower one first, for a column, such as share=0,1 "
    "or, without an upper bound, mass=0, with the comma",
    "--periodic": "must be a number above 0 for a column, its period, such as hour=24",
}


# The defaults are FlowMixture's, except for the seed; a test checks that they agree.
@joined
def fit(
    data: BigData,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The model file to write.", show_default=False)
    ],
    components: Annotated[
        str,
        typer.Option(
            "--components",
            "-k",
            metavar="K",
            help="Number of components, K. auto finds it, by the agreement of several clusterings; "
            "--set max_components=20 bounds it.",
            show_default=False,
        ),
    ],
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="The features (a,b,c, or repeated). By default, all other columns of the table.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Columns that are not features, such as ids."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The column of known classes: whole numbers or text, empty where unknown. "
            "Each class gets a component of the same name.",
        ),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The column of weights: how often each row counts."),
    ] = None,
    flow: Annotated[
        str, typer.Option(metavar="NAME", help="The family of flows: realnvp, maf, nsf or nsf-ar.")
    ] = "realnvp",
    base: Annotated[
        str,
        typer.Option(
            metavar="NUMBER",
            help="The number of Gaussians in the base distribution of each flow; auto chooses it "
            "for each component by cross-validation.",
        ),
    ] = "auto",
    weights: Annotated[
        str,
        typer.Option(
            metavar="WEIGHTS",
            help="Mixing weights: learned, uniform, or K numbers such as 0.2,0.8.",
        ),
    ] = "learned",
    init: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Initialisation of components: kmeans, auto (of several clusterings the one that "
            "agrees most with the others), graph, peaks, tree, gaussian, merged, random or none.",
        ),
    ] = "auto",
    bounds: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOW,HIGH",
            help="Bounds of a column, repeated as needed: share=0,1 or, without an upper bound, "
            "mass=0, (with the comma). No sample is beyond them, where the density is zero.",
        ),
    ] = None,
    periodic: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PERIOD",
            help="A column of angles and its period, repeated as needed: hour=24.",
        ),
    ] = None,
    missing: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What is done with empty cells: refuse, or marginal, which fits the other cells "
            "of their rows, and can then score and predict such rows.",
        ),
    ] = "refuse",
    restarts: Annotated[int, typer.Option(help="Number of restarts; the best is kept.")] = 1,
    max_epochs: Annotated[int, typer.Option(help="Maximum number of passes over the rows.")] = 300,
    max_seconds: Annotated[
        float | None, typer.Option(help="Time of the fit: the training ends with it.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A file for the state of the training; the same fit resumes from it."),
    ] = None,
    drop_unused: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Leave out components that hold less than this share of the rows, such as 0.01. "
            "Classes of --label are kept.",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ...; auto uses a GPU if available."),
    ] = "auto",
    seed: Annotated[
        int, typer.Option(help="The random seed. On one machine it determines the model.")
    ] = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other parameter of FlowMixture, repeated as needed: temperature=5,1, "
            "objective=marginal, flow__n_layers=6, flow__hidden=32,32, posterior__hidden=128, "
            "training__learning_rate=0.001, training__patience=none, training__consistency=noise. "
            "`vmonf info` shows all parameters of a model.",
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit a mixture of flows to a table and write the model.

    Parquet files with more than 100,000 rows are read in parts and need not fit in memory: an epoch
    then has 20,000 rows, and --set training__epoch_rows=N changes that.

    `torchrun --nproc-per-node 4 -m vmonf fit ...` shares the training among four processes, on one
    machine or several.

    Ctrl-C ends the training early: the best model so far is written. A second within two seconds
    stops without a model. After SIGTERM the checkpoint holds the last whole epoch. The options are
    parameters of FlowMixture, whose documentation describes them in detail.
    """
    parameters: dict[str, Any] = {
        "n_components": _value(components),
        "flow": flow,
        "base": _value(base),
        "weights": weights if weights.isalpha() else _value(weights),
        "init": init,
        "n_init": restarts,
        "max_epochs": max_epochs,
        "max_seconds": max_seconds,
        "checkpoint": checkpoint,
        "bounds": _by_column(bounds, "--bounds", _pair),
        "periodic": _by_column(periodic, "--periodic", float),
        "missing": missing,
        "device": device,
        "random_state": seed,
        "verbose": not (quiet or as_json),
    }
    from vmonf.data.tables import ENDINGS, feature_columns, label_column, to_matrix

    check_output(output, inputs=[data])
    if output.suffix.lower() in ENDINGS:
        proposed = output.with_suffix(".vmonf")
        raise ValueError(f"'{output}' has the ending of a table: name the model '{proposed}'.")
    if drop_unused is not None and not 0 <= drop_unused < 1:
        raise typer.BadParameter(
            f"{drop_unused:g} must be a share of at least 0 and below 1.",
            param_hint="--drop-unused",
        )

    import polars

    from vmonf import ranks
    from vmonf.data import open_source
    from vmonf.stream import SAMPLE_ROWS

    source = open_source(data)
    head = source.head()
    beside = [name for name in (label, weight) if name is not None]
    features = feature_columns(
        head,
        None if columns is None else split_names(columns, head),
        [*beside, *split_names(exclude, head)],
    )
    source = source.select(list(dict.fromkeys([*features, *beside])))
    n_labelled = 0
    if source.is_in_memory or source.n_rows <= SAMPLE_ROWS:
        frame = polars.concat(source.in_order(source.columns))
        matrix = to_matrix(frame, features, with_gaps=missing == "marginal")
        rows: Any = polars.DataFrame(matrix, schema=features)
        labels: Any = None
        sample_weight: Any = None if weight is None else to_matrix(frame, [weight])[:, 0]
        if label is not None:
            labels, is_labelled = label_column(frame, label)
            n_labelled = int(is_labelled.sum())
    else:
        rows, labels, sample_weight = source, label, weight
        if label is not None:
            parts = source.in_order([label])
            n_labelled = sum(int(label_column(part, label)[1].sum()) for part in parts)

    mixture = _mixture(parameters, changes or ())
    if len(features) > MANY_FEATURES:
        count = f"{len(rows)} rows of {len(features)} features"
        remark(f"Finding the start in {count}: this may take minutes.", quiet or as_json)
    began = time.perf_counter()
    with _exit_on_sigterm():
        mixture.fit(rows, labels, sample_weight)
    seconds = time.perf_counter() - began
    if not ranks.is_first():
        return
    fitted = mixture.classes_
    if drop_unused is not None:
        mixture = mixture.without_unused(rows, drop_unused, sample_weight)
    dropped = [name for name in fitted.tolist() if name not in mixture.classes_]
    mixture.save(output)

    n_rows = source.n_rows
    if as_json:
        print_json(
            {
                "path": output,
                "rows": n_rows,
                "labelled_rows": n_labelled,
                "features": features,
                "components": len(mixture.classes_),
                "classes": mixture.classes_,
                "dropped": dropped,
                "held_out_log_likelihood": _null_if_nan(mixture.held_out_log_likelihood_),
                "gain": _null_if_nan(mixture.gain_),
                "gain_error": _null_if_nan(mixture.gain_error_),
                "epochs": mixture.n_epochs_,
                "best_epoch": mixture.best_epoch_,
                "converged": mixture.converged_,
                "start": mixture.start_.chosen,
                "number": mixture.number_.reason,
                "seconds": seconds,
            }
        )
    elif not quiet:
        typer.echo(
            f"Fitted {len(fitted)} components to {n_rows} rows of "
            f"{_listed(features)} in {seconds:.1f} s."
        )
        if label is not None:
            typer.echo(f"{n_labelled} of {n_rows} rows had a label in column {label!r}.")
        typer.echo(describe(mixture))
        if drop_unused is not None:
            typer.echo(
                f"Components left out, with less than {drop_unused:.2%} of the rows: "
                f"{', '.join(map(str, dropped)) or 'none'}."
            )
        typer.echo(f"Wrote {output}.")


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM exit with code 143 as an exception does, so that a checkpoint is written."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _null_if_nan(number: float) -> float | None:
    return None if math.isnan(number) else number


def _listed(features: list[str]) -> str:
    shown = ", ".join(features[:8]) + (", ..." if len(features) > 8 else "")
    return f"{len(features)} feature{'s' if len(features) > 1 else ''} ({shown})"


def describe(mixture: FlowMixture) -> str:
    """Describe in a few lines what the fit kept and why."""
    lines = [] if mixture.number_.reason == "given" else [str(mixture.number_)]
    lines += [str(mixture.start_)] if mixture.start_.names else []
    lines.append(str(mixture.verdict_))
    if not math.isnan(mixture.held_out_log_likelihood_):
        lines.append(
            f"Held-out log-likelihood: {mixture.held_out_log_likelihood_:.4f} nats per row."
        )
    if mixture.best_epoch_ > 0 and not mixture.converged_ and mixture.verdict_.reason == "gain":
        lines.append("Training ended before it converged: a larger --max-epochs may help.")
    return "\n".join(lines)


def _mixture(parameters: dict[str, Any], changes: Iterable[str]) -> FlowMixture:
    """Build the estimator; an invalid parameter is reported as bad usage of its option."""
    from vmonf import FlowMixture
    from vmonf.parameters import ParameterError
    from vmonf.settings import check_parameters

    try:
        mixture = FlowMixture(**parameters).set_params(**dict(map(_change, changes)))
        check_parameters(mixture.get_params(deep=False))
    except ParameterError as error:
        hint = OPTIONS.get(error.name, "--set")
        raise typer.BadParameter(str(error), param_hint=hint) from None
    return mixture


def _by_column(
    given: Iterable[str] | None, option: str, parse: Callable[[str], Any]
) -> dict[str, Any] | None:
    """The values that an option gives to columns, as NAME=VALUE, or None without any."""
    values: dict[str, Any] = {}
    for text in given or ():
        name, _, value = text.rpartition("=")
        try:
            parsed = parse(value)
        except ValueError:
            parsed = None
        if not name or parsed is None or name.strip() in values:
            raise typer.BadParameter(f"{text!r} {_FORMS[option]}.", param_hint=option)
        values[name.strip()] = parsed
    return values or None


def _pair(text: str) -> tuple[float | None, float | None]:
    """Two bounds with a comma between them, of which one may be left out."""
    low, high = (float(part) if part.strip() else None for part in text.split(","))
    return low, high


def _change(text: str) -> tuple[str, Any]:
    """Split NAME=VALUE into the name and the value of a parameter."""
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE.", param_hint="--set")
    if name in OPTIONS:
        raise typer.BadParameter(f"{name} is set by {OPTIONS[name]}.", param_hint="--set")
    return name, _value(value)


def _value(text: str) -> Any:
    """Parse a Python literal such as 5, (5, 1), True or None; return any other text unchanged."""
    words = {"none": None, "true": True, "false": False}
    text = text.strip()
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
