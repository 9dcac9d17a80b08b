"""Tails and edges: densities of one component on distributions that are hard for Gaussians.

    python benchmarks/tails.py --threads 1
    python benchmarks/tails.py --write-page    # the page's table, from the results file

Each distribution is fitted from 2,000 rows and scored on 20,000 fresh ones, whose true density is
known. The Gaussian mixture is scikit-learn's with 1 to 20 components, the best on the fresh rows
themselves. `bounds` and `periodic` are given where a distribution has bounds or a period.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import common
from scipy import stats
from sklearn.mixture import GaussianMixture

from vmonf import FlowMixture

N_ROWS, N_FRESH = 2000, 20_000


@dataclass(frozen=True)
class Case:
    """A distribution of independent features, and what a user would say of its columns."""

    truth: Any
    bounds: tuple[float | None, float | None] | None = None
    period: float | None = None


CASES = {
    "Student-t, 2 degrees": Case(stats.t(2)),
    "Student-t, 5 degrees": Case(stats.t(5)),
    "lognormal": Case(stats.lognorm(1), (0, None)),
    "exponential": Case(stats.expon(), (0, None)),
    "uniform": Case(stats.uniform(), (0, 1)),
    "beta(.5, 2)": Case(stats.beta(0.5, 2), (0, 1)),
    "von Mises at the seam": Case(stats.vonmises(2, loc=math.pi), None, 2 * math.pi),
}
CONTESTANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "splines": {"flow": "nsf"},
    "with bounds or period": {},
}


def rows_of(case: Case, n_rows: int, n_features: int, seed: int) -> tuple[Any, Any]:
    """Return rows (n, D) and their true log densities, in nats."""
    x = case.truth.rvs((n_rows, n_features), random_state=seed)
    if case.period is not None:
        x = x % case.period
    return x, case.truth.logpdf(x).sum(axis=1)


def fits_of(name: str, case: Case, n_features: int, quick: bool) -> list[dict[str, object]]:
    """Fit all contestants to one distribution."""
    n_rows, n_fresh = (200, 500) if quick else (N_ROWS, N_FRESH)
    X, _ = rows_of(case, n_rows, n_features, 0)
    fresh, truth = rows_of(case, n_fresh, n_features, 1)
    found = []
    for contestant, parameters in CONTESTANTS.items():
        given = dict(parameters)
        if contestant == "with bounds or period":
            if case.bounds is not None:
                given["bounds"] = dict.fromkeys(range(n_features), case.bounds)
            elif case.period is not None:
                given["periodic"] = dict.fromkeys(range(n_features), case.period)
            else:
                continue
        if quick:
            given["max_epochs"] = 2
        began = time.perf_counter()
        mixture = FlowMixture(1, random_state=0, **given).fit(X)
        seconds = time.perf_counter() - began
        own = mixture.score_samples(fresh) - truth
        found.append({"contestant": contestant, "seconds": seconds} | _summary(own))
    numbers = range(1, 3 if quick else 21)
    mixtures = [GaussianMixture(number, random_state=0).fit(X) for number in numbers]
    best = max(mixtures, key=lambda each: each.score(fresh))
    own = best.score_samples(fresh) - truth
    found.append({"contestant": f"GaussianMixture of {best.n_components}"} | _summary(own))
    return [{"case": name, "features": n_features} | each for each in found]


def fits(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Fit all contestants to all distributions, in one and in two dimensions."""
    for n_features in (1, 2):
        for name, case in CASES.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = fits_of(name, case, n_features, arguments.quick)
            yield from found


def _summary(difference: Any) -> dict[str, float]:
    return {"nats_above_truth": float(difference.mean()), "worst_row": float(difference.min())}


def page(results: dict[str, Any]) -> list[str]:
    """Return the table of the page."""
    lines = [
        common.source(results, "tails"),
        "",
        "Nats per fresh row above the true density, and in parentheses the worst row.",
        "",
        f"| distribution | features | {' | '.join(CONTESTANTS)} | best `GaussianMixture` |",
        f"|---|---:|{'---:|' * (len(CONTESTANTS) + 1)}",
    ]
    for name in CASES:
        for n_features in (1, 2):
            own = [
                each
                for each in results["fits"]
                if each["case"] == name and each["features"] == n_features
            ]
            cells = {each["contestant"]: _cell(each) for each in own}
            gaussian = [each for each in own if each["contestant"].startswith("Gaussian")]
            if not own:
                continue
            shown = [cells.get(contestant, "") for contestant in CONTESTANTS]
            of_gaussians = f"{_cell(gaussian[0])}, {gaussian[0]['contestant'].split()[-1]}"
            lines.append(f"| {name} | {n_features} | {' | '.join(shown)} | {of_gaussians} |")
    return lines


def _cell(fit: dict[str, Any]) -> str:
    return f"{fit['nats_above_truth']:+.3f} ({fit['worst_row']:.1f})"


def main() -> None:
    """Run, print, and write the results file after each part."""
    common.run(__doc__, "tails", common.each("fits", fits), page)


if __name__ == "__main__":
    main()
