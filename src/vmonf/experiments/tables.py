"""Tables of results, for the screen and the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

#: Column heads of the measured values.
HEADS = {
    "accuracy": "accuracy",
    "at_least_.98": "seeds with .98 or more",
    "at_least_.99": "seeds with .99 or more",
    "macro_accuracy": "accuracy, mean over digits",
    "train_accuracy": "accuracy, training images",
    "start_accuracy": "accuracy of the start",
    "bits_per_dimension": "bits per dimension",
    "accuracy_exact": "accuracy, exact",
    "nmi": "NMI",
    "ari": "ARI",
    "log_likelihood": "log-likelihood",
    "true_log_likelihood": "log-likelihood, true density",
    "below_truth": "nats below the true density",
    "below_truth_worst": "nats below, from the worst 1% of rows",
    "gap": "gap of q, nats",
    "stray": "stray samples",
    "seconds": "seconds",
}
#: Values that count the seeds with at least this accuracy.
AT_LEAST = {"at_least_.98": 0.98, "at_least_.99": 0.99}
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
    "mnist": "The paper's table 1 gives for training images: accuracy .757, NMI .660, ARI .559. "
    "The accuracy of the start is on training images, because the start clusters no others. Bits "
    "per dimension are of the dequantised bytes with 256 levels, in the convention of the MAF "
    "paper. Seconds are the time of training.",
}


def cases_of(document: Mapping[str, Any]) -> list[str]:
    """Return the cases of a results file, in their order."""
    return list(dict.fromkeys(fit["case"] for fit in document["fits"].values()))


def table(document: Mapping[str, Any], figures: Sequence[str]) -> list[list[str]]:
    """Return a row for each case: its name and number of seeds, then means and ranges."""
    rows = []
    for case in cases_of(document):
        n_seeds = len(_fits(document, case))
        cells = [cell(document, case, name) for name in figures]
        rows.append([f"{case} ({n_seeds} seed{'s' * (n_seeds > 1)})", *cells])
    return rows


def cell(document: Mapping[str, Any], case: str, figure: str) -> str:
    """Format a value of a case: its mean over seeds, and its range if there are several."""
    fits = _fits(document, case)
    if figure in AT_LEAST:
        return f"{sum(fit['accuracy'] >= AT_LEAST[figure] for fit in fits)} of {len(fits)}"
    if figure not in fits[0]:  # a baseline has no density, and some fits have no start
        return ""
    values, digits = [fit[figure] for fit in fits], 1 if figure == "seconds" else 3
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
