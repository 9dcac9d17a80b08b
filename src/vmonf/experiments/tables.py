"""Tables of results, for the screen and the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

#: Column heads of the measured values.
HEADS = {
    "accuracy": "accuracy",
    "at_least_.9": "seeds with .9 or more",
    "at_least_.98": "seeds with .98 or more",
    "at_least_.99": "seeds with .99 or more",
    "macro_accuracy": "accuracy, mean over digits",
    "train_accuracy": "accuracy, training images",
    "start_accuracy": "accuracy of the start",
    "bits_per_dimension": "bits per dimension",
    "accuracy_exact": "accuracy, exact",
    "nmi": "NMI",
    "ari": "ARI",
    "elbo": "ELBO",
    "log_likelihood": "log-likelihood",
    "true_log_likelihood": "log-likelihood, true density",
    "below_truth": "nats below the true density",
    "below_truth_worst": "nats below, from the worst 1% of rows",
    "gap": "gap of q, nats",
    "in_use": "components in use",
    "effective_number": "effective number",
    "kept": "components kept",
    "below_truth_after": "nats below, unused removed",
    "stray": "stray samples",
    "seconds": "seconds",
}
#: Values that count the seeds with at least this accuracy.
AT_LEAST = {"at_least_.9": 0.9, "at_least_.98": 0.98, "at_least_.99": 0.99}
#: Columns on the screen, whose width is limited.
SHORT = {
    "pinwheel": ("accuracy", "at_least_.98", "below_truth", "seconds"),
    "two-circles": ("accuracy", "at_least_.99", "stray", "below_truth", "seconds"),
    "mnist": ("accuracy", "start_accuracy", "bits_per_dimension", "seconds"),
}
#: Columns in the documentation.
FIGURES = {
    "pinwheel": (
        "accuracy",
        "at_least_.98",
        "accuracy_exact",
        "nmi",
        "ari",
        "log_likelihood",
        "true_log_likelihood",
        "below_truth",
        "below_truth_worst",
        "gap",
        "seconds",
    ),
    "two-circles": (
        "accuracy",
        "at_least_.99",
        "accuracy_exact",
        "nmi",
        "ari",
        "stray",
        "below_truth",
        "gap",
        "seconds",
    ),
    "mnist": (
        "accuracy",
        "accuracy_exact",
        "macro_accuracy",
        "nmi",
        "ari",
        "start_accuracy",
        "train_accuracy",
        "bits_per_dimension",
        "gap",
        "seconds",
    ),
}
#: The paper's results, and notes on the columns.
PAPER = {
    "pinwheel": "A figure of the paper shows that the five wings are found; the paper gives no "
    "numbers.",
    "two-circles": "The paper's figures show that without labels the plane is cut into halves, and "
    "that with labels the circles are separated, with broken arcs and a bridge between them. Stray "
    "samples are more than four standard deviations of the noise away from the nearest circle.",
    "components": "Trainings are short (40 epochs on the circles, 50 on the pinwheel, 100 with "
    "more components from the paper's start, 20 from ours), with the paper's settings but for a "
    "larger learning rate and wider posteriors. Accuracy is that of the best one-to-one map; .9 "
    "means that the structure is found, .98 that it is clean. The temperature falls from 10 to 1 "
    "over the first half of the epochs, and is 1 throughout where it is not named. The term has "
    "its default weight and size; that with rotations is given the knowledge that for "
    "the circles an angle does not matter. A component is in use if the mean of q over fresh rows "
    "is 1% or more; the effective number is the exponential of the entropy of that mean. Removed "
    "are components with less than 1% of the rows of the fit.",
    "mnist": "The paper's table 1 gives for training images: accuracy .757, NMI .660, ARI .559. "
    "The accuracy of the start is on training images, because the start clusters no others. Bits "
    "per dimension are of the dequantised bytes with 256 levels, in the convention of the MAF "
    "paper. Seconds are the time of training.",
}


@dataclass(frozen=True)
class Part:
    """A table of an experiment.

    Attributes
    ----------
    prefix : str
        The table has the cases whose names begin with it, and shows the rest of their names.
    title : str
    short, figures : tuple of str
        Columns on the screen and in the documentation.
    """

    prefix: str
    title: str
    short: tuple[str, ...]
    figures: tuple[str, ...]


#: The tables of an experiment that has several.
PARTS = {
    "components": (
        Part(
            "consistency: ",
            "A consistency term, and the temperature, from the paper's start",
            ("accuracy", "at_least_.9", "below_truth"),
            ("accuracy", "at_least_.9", "at_least_.98", "ari", "below_truth", "gap", "seconds"),
        ),
        Part(
            "number: ",
            "More components than the five wings of the pinwheel",
            ("in_use", "effective_number", "below_truth", "below_truth_after"),
            (
                "in_use",
                "effective_number",
                "ari",
                "log_likelihood",
                "below_truth",
                "kept",
                "below_truth_after",
                "seconds",
            ),
        ),
        Part(
            "balance: ",
            "Balance of posterior and components, from the paper's start",
            ("elbo", "log_likelihood", "gap", "accuracy"),
            ("elbo", "log_likelihood", "gap", "below_truth", "accuracy", "ari", "seconds"),
        ),
    )
}


def parts_of(experiment: str) -> tuple[Part, ...]:
    """Return the tables of an experiment; most have one, without a title, of all their cases."""
    if experiment in PARTS:
        return PARTS[experiment]
    return (Part("", "", SHORT[experiment], FIGURES[experiment]),)


def cases_of(document: Mapping[str, Any]) -> list[str]:
    """Return the cases of a results file, in their order."""
    return list(dict.fromkeys(fit["case"] for fit in document["fits"].values()))


def table(document: Mapping[str, Any], figures: Sequence[str], prefix: str = "") -> list[list[str]]:
    """Return a row for each case: its name and number of seeds, then means and ranges.

    Only cases whose names begin with the prefix are shown, without it.
    """
    rows = []
    for case in cases_of(document):
        if not case.startswith(prefix):
            continue
        n_seeds = len(_fits(document, case))
        cells = [cell(document, case, name) for name in figures]
        name = case.removeprefix(prefix)
        rows.append([f"{name} ({n_seeds} seed{'s' * (n_seeds > 1)})", *cells])
    return rows


def cell(document: Mapping[str, Any], case: str, figure: str) -> str:
    """Format a value of a case: its mean over seeds, and its range if there are several."""
    fits = _fits(document, case)
    if figure in AT_LEAST:
        return f"{sum(fit['accuracy'] >= AT_LEAST[figure] for fit in fits)} of {len(fits)}"
    if figure not in fits[0]:  # a baseline has no density, and some fits have no start
        return ""
    values = [fit[figure] for fit in fits]
    digits = 1 if figure in ("seconds", "in_use", "kept") else 3
    # Adding zero turns -0.0 into 0.0.
    low, middle, high = (f"{round(f(values), digits) + 0.0:.{digits}f}" for f in (min, mean, max))
    return middle if len(values) == 1 else f"{middle} [{low}, {high}]"


def write_between_marks(page: Path, name: str, lines: Sequence[str]) -> None:
    """Write lines between a page's marks ``<!-- name:begin -->`` and ``<!-- name:end -->``."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    head, rest = page.read_text(encoding="utf-8").split(begin)
    _, tail = rest.split(end)
    page.write_text("\n".join([head + begin, *lines, end + tail]), encoding="utf-8")


def _fits(document: Mapping[str, Any], case: str) -> list[Mapping[str, Any]]:
    return [fit for fit in document["fits"].values() if fit["case"] == case]
