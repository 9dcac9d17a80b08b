"""`vmonf fit`: fit a mixture to a table and write the model."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vmonf.cli.common import (
    Data,
    Json,
    Quiet,
    print_json,
    split_names,
)
from vmonf.files import check_output

if TYPE_CHECKING:
    from vmonf import FlowMixture

# The options that are not called as the parameter of FlowMixture they set.
OPTION_OF_PARAMETER = {
    "n_components": "components",
    "n_layers": "layers",
    "n_bins": "bins",
    "n_init": "restarts",
    "random_state": "seed",
}


# The defaults are FlowMixture's own, except for the seed; a test holds the two together.
def fit(
    data: Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The model file to write.", show_default=False)
    ],
    components: Annotated[int, typer.Option("--components", "-k", help="K, how many flows.")],
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="The features (a,b,c, or repeated): all other columns of the table unless given.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Columns that are no features, such as ids."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The column of known clusters: whole numbers or text, empty where not known. "
            "Every class gets a component, called by its name.",
        ),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The column that says how often each row counts."),
    ] = None,
    flow: Annotated[
        Literal["realnvp", "maf", "nsf", "nsf-ar"], typer.Option(help="The family of flows.")
    ] = "realnvp",
    layers: Annotated[int, typer.Option(help="Layers of each flow.")] = 4,
    hidden: Annotated[
        str, typer.Option(metavar="WIDTHS", help="Hidden widths of each layer's network.")
    ] = "64,64",
    bins: Annotated[int, typer.Option(help="Bins of a spline.")] = 8,
    mixing: Annotated[
        Literal["permutation", "lu"], typer.Option(help="How features are mixed between layers.")
    ] = "permutation",
    posterior_hidden: Annotated[
        str, typer.Option(metavar="WIDTHS", help="Hidden widths of the posterior network.")
    ] = "64,64",
    weights: Annotated[
        str,
        typer.Option(
            metavar="WEIGHTS",
            help="Mixing weights: uniform, learned, or K numbers such as 0.2,0.8.",
        ),
    ] = "uniform",
    objective: Annotated[
        Literal["elbo", "marginal"],
        typer.Option(help="Maximise the ELBO or the exact log-likelihood."),
    ] = "elbo",
    temperature: Annotated[
        str,
        typer.Option(
            metavar="NUMBERS", help="Divides the posterior's softmax input; 5,1 decays from 5 to 1."
        ),
    ] = "1",
    temperature_epochs: Annotated[
        int | None, typer.Option(help="Epochs of the decay: half of --max-epochs unless given.")
    ] = None,
    init: Annotated[
        Literal["kmeans", "graph", "random", "none"],
        typer.Option(help="Where the components start."),
    ] = "kmeans",
    restarts: Annotated[int, typer.Option(help="Fits from so many starts; the best is kept.")] = 1,
    pretrain_epochs: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="Epochs on the labelled rows alone, or on the graph's clusters; auto: 20 with "
            "the graph, else 0.",
        ),
    ] = "auto",
    refine_posterior: Annotated[
        bool, typer.Option(help="Fit the posterior further at the end, the flows held fixed.")
    ] = True,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 0.003,
    learning_rate_schedule: Annotated[
        Literal["plateau", "cosine", "constant"], typer.Option(help="How it falls.")
    ] = "plateau",
    weight_decay: Annotated[float, typer.Option(help="As in AdamW.")] = 0.1,
    gradient_clip: Annotated[float, typer.Option(help="Largest norm of a gradient.")] = 5,
    components_per_row: Annotated[
        str,
        typer.Option(
            metavar="N|auto|all",
            help="Train each row on so many likely components and one other; auto: with more "
            "than 16 components on 4.",
        ),
    ] = "auto",
    averaging: Annotated[
        float, typer.Option(help="Factor a step of the weights' moving average; 0 for none.")
    ] = 0.99,
    batch_size: Annotated[int, typer.Option(help="Rows a step.")] = 256,
    max_epochs: Annotated[int, typer.Option(help="Passes over the rows, at most.")] = 300,
    validation_fraction: Annotated[
        float,
        typer.Option(
            help="Share of the rows held out for early stopping; 0 for no early stopping."
        ),
    ] = 0.1,
    patience: Annotated[
        int, typer.Option(help="Stop after so many epochs without gain; 0 for never.")
    ] = 30,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A file that keeps the training's state; the same fit goes on from it."),
    ] = None,
    device: Annotated[
        str,
        typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ...; auto is a GPU if there is one."),
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Same seed, same machine, same model.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit a mixture of flows to a table and write the model.

    Ctrl-C ends the training early: the best model so far is written. The options are
    FlowMixture's parameters, whose documentation says more.
    """
    settings: dict[str, Any] = {
        "n_components": components,
        "flow": flow,
        "n_layers": layers,
        "hidden": _numbers("--hidden", hidden, int),
        "n_bins": bins,
        "mixing": mixing,
        "posterior_hidden": _numbers("--posterior-hidden", posterior_hidden, int),
        "weights": weights
        if weights in ("uniform", "learned")
        else _numbers("--weights", weights, float),
        "components_per_row": _count_or_word(
            "--components-per-row", components_per_row, auto="auto", all=None
        ),
        "objective": objective,
        "temperature": _one_or_pair(_numbers("--temperature", temperature, float)),
        "temperature_epochs": temperature_epochs,
        "init": init,
        "n_init": restarts,
        "pretrain_epochs": _count_or_word("--pretrain-epochs", pretrain_epochs, auto="auto"),
        "refine_posterior": refine_posterior,
        "learning_rate": learning_rate,
        "learning_rate_schedule": learning_rate_schedule,
        "weight_decay": weight_decay,
        "gradient_clip": gradient_clip,
        "averaging": averaging,
        "batch_size": batch_size,
        "max_epochs": max_epochs,
        "validation_fraction": validation_fraction,
        "patience": patience or None,
        "checkpoint": checkpoint,
        "device": device,
        "random_state": seed,
    }
    check_output(output)

    import polars

    from vmonf.data.tables import feature_columns, label_column, read_table, to_matrix

    frame = read_table(data)
    beside = [name for name in (label, weight) if name is not None]
    features = feature_columns(
        frame,
        None if columns is None else split_names(columns, frame),
        [*beside, *split_names(exclude, frame)],
    )
    rows = polars.DataFrame(to_matrix(frame, features), schema=features)
    labels, is_labelled = (None, None) if label is None else label_column(frame, label)
    sample_weight = None if weight is None else to_matrix(frame, [weight])[:, 0]

    from vmonf import FlowMixture

    mixture = FlowMixture(**settings, verbose=not (quiet or as_json))
    _check_usage(mixture)
    began = time.perf_counter()
    mixture.fit(rows, labels, sample_weight)
    seconds = time.perf_counter() - began
    mixture.save(output)

    n_labelled = 0 if is_labelled is None else int(is_labelled.sum())
    if as_json:
        print_json(
            {
                "path": output,
                "rows": len(rows),
                "labelled_rows": n_labelled,
                "features": features,
                "components": len(mixture.classes_),
                "classes": mixture.classes_,
                "held_out_log_likelihood": _null_if_nan(mixture.held_out_log_likelihood_),
                "gain": _null_if_nan(mixture.gain_),
                "gain_error": _null_if_nan(mixture.gain_error_),
                "epochs": mixture.n_epochs_,
                "best_epoch": mixture.best_epoch_,
                "converged": mixture.converged_,
                "seconds": seconds,
            }
        )
    elif not quiet:
        typer.echo(
            f"Fitted {len(mixture.classes_)} components to {len(rows)} rows of "
            f"{_listed(features)} in {seconds:.1f} s."
        )
        if label is not None:
            typer.echo(f"{n_labelled} of {len(rows)} rows had a label in column {label!r}.")
        typer.echo(describe_training(mixture))
        typer.echo(f"Wrote {output}.")


def _null_if_nan(number: float) -> float | None:
    return None if math.isnan(number) else number


def _listed(features: list[str]) -> str:
    shown = ", ".join(features[:8]) + (", ..." if len(features) > 8 else "")
    return f"{len(features)} feature{'s' if len(features) > 1 else ''} ({shown})"


def describe_training(mixture: FlowMixture) -> str:
    """Say in a sentence or two what training came to."""
    if mixture.n_epochs_ == 0:
        return "The model is a Gaussian mixture: there were too few rows or epochs for flows."
    gain = f"{mixture.gain_:z.4f} nats per row (standard error {mixture.gain_error_:.4f})"
    if mixture.best_epoch_ == 0:
        return (
            "The model is a Gaussian mixture: in "
            f"{mixture.n_epochs_} epochs flows did no better than chance on the held-out rows "
            f"(difference {gain}), and were dropped.\n"
            f"Held-out log-likelihood: {mixture.held_out_log_likelihood_:.4f} nats per row."
        )
    if mixture.validation_fraction == 0:
        return f"Trained for {mixture.n_epochs_} epochs, with no rows held out to judge them."
    end = "" if mixture.converged_ else ", still improving or cut short: more may help"
    return (
        f"Held-out log-likelihood: {mixture.held_out_log_likelihood_:.4f} nats per row.\n"
        f"Gain over a Gaussian mixture: {gain}.\n"
        f"Kept epoch {mixture.best_epoch_} of {mixture.n_epochs_}{end}."
    )


def _numbers(option: str, text: str, kind: type[int] | type[float]) -> tuple[float, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise typer.BadParameter(
            f"{text!r} is not {what} with commas between them.", param_hint=option
        ) from None


def _one_or_pair(values: tuple[float, ...]) -> float | tuple[float, ...]:
    return values[0] if len(values) == 1 else values


def _count_or_word(option: str, text: str, **words: Any) -> Any:
    """A whole number, or what one of the words stands for."""
    if text in words:
        return words[text]
    try:
        return int(text)
    except ValueError:
        *others, last = ["a whole number", *map(repr, words)]
        raise typer.BadParameter(
            f"{text!r} is not {', '.join(others)} or {last}.", param_hint=option
        ) from None


def _check_usage(mixture: FlowMixture) -> None:
    """Refuse settings out of range as bad usage, under the options' names, before the fit."""
    from sklearn.utils._param_validation import InvalidParameterError

    try:
        mixture._validate_params()
    except InvalidParameterError as error:
        match = re.fullmatch(r"The '(\w+)' parameter of FlowMixture (.*)", str(error), re.DOTALL)
        if match is None:
            raise
        name, fault = match.groups()
        option = OPTION_OF_PARAMETER.get(name, name).replace("_", "-")
        raise typer.BadParameter(f"It {fault}", param_hint=f"--{option}") from None
