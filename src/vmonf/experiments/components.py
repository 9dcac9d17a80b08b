"""Experiments on the paper's open questions: consistency, unneeded components, and balance.

Consistency: from the paper's start, how often are circles and wings found with a consistency term,
beside the temperature alone? Number: the pinwheel has five wings; how many of five to ten
components are used, from the paper's start with uniform and with learned weights, and from ours?
Balance: three sizes of the posterior with three of the components. Trainings are short, so that
everything fits into some minutes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vmonf import FlowMixture
from vmonf.data import Pinwheel, TwoCircles
from vmonf.data.toy import ToyMixture
from vmonf.experiments import pinwheel, two_circles
from vmonf.experiments.common import command_of, stem_of
from vmonf.experiments.ledger import Ledger
from vmonf.metrics import clustering_scores
from vmonf.plots import plot

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: A component whose mean of q over fresh rows is smaller is not in use.
LEAST_USE = 0.01
FRESH_ROWS = 4000
#: Seeds of the second and the third part, whose cases differ by more than seeds do.
MOST_SEEDS = 3


def turned(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Rows after a rotation about the origin, by a random angle for each row: (B, 2) to (B, 2)."""
    angle = 2 * math.pi * torch.rand(len(x), generator=generator, dtype=x.dtype).to(x.device)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x[:, 0] - sin * x[:, 1], sin * x[:, 0] + cos * x[:, 1]], dim=1)


#: What keeps the components from separating too early, or wrongly.
NEITHER: dict[str, Any] = {"temperature": 1.0}
NOISE: dict[str, Any] = {"training__consistency": "noise"}
TURNED: dict[str, Any] = {"training__consistency": turned}
AIDS: dict[str, dict[str, Any]] = {
    "neither": NEITHER,
    "temperature": {},
    "consistency (noise)": NEITHER | NOISE,
    "temperature, consistency (noise)": NOISE,
}
#: Knows of the circles that an angle does not matter.
CIRCLES_AIDS = AIDS | {"temperature, consistency (rotations)": TURNED}


@dataclass(frozen=True)
class Data:
    """Toy data, their number of rows in a component, and settings of a short training on them.

    Settings are the paper's, but for the larger learning rate and the wider posterior, without
    which too little is learned in so few steps.
    """

    name: str
    truth: ToyMixture
    rows: int
    settings: dict[str, Any]


CIRCLES = Data(
    "two circles",
    TwoCircles(),
    512,
    two_circles.PAPER | {"training__learning_rate": 1e-2, "max_epochs": 40},
)
WINGS = Data(
    "pinwheel",
    Pinwheel(rate=0.4),
    512,
    pinwheel.PAPER
    | {"posterior__hidden": (16, 16), "training__learning_rate": 1e-2, "max_epochs": 50},
)
#: The defaults, with learned weights and less time.
OURS: dict[str, Any] = {"weights": "learned", "max_epochs": 20}
#: Components that are not needed lose their rows late, so that these trainings are longer.
LONGER: dict[str, Any] = WINGS.settings | {"max_epochs": 100}
STARTS = {
    "the paper's start": LONGER,
    "the paper's start, learned weights": LONGER | {"weights": "learned"},
    "our start": OURS,
}
NUMBERS = (5, 6, 7, 8, 9, 10)
#: Widths of the posterior's hidden layers; layers and widths of the flows.
POSTERIORS: dict[str, dict[str, Any]] = {
    "small posterior": {"posterior__hidden": (3,)},
    "middle posterior": {"posterior__hidden": (16, 16)},
    "large posterior": {"posterior__hidden": (128, 128)},
}
FLOWS: dict[str, dict[str, Any]] = {
    "small components": {"flow__n_layers": 2, "flow__hidden": (4,)},
    "middle components": {"flow__n_layers": 6, "flow__hidden": (8,)},
    "large components": {"flow__n_layers": 10, "flow__hidden": (32,)},
}
QUICK = {"max_epochs": 3}


@dataclass(frozen=True)
class Case:
    """A fit: its data, the number of components, the settings, the seeds and the minutes."""

    data: Data
    n_components: int
    settings: dict[str, Any] = field(default_factory=dict)
    n_seeds: int = 1
    minutes: float = 0.08
    is_drawn: bool = False

    def quick(self) -> Case:
        """Return the case with few epochs and rows, only to check that it works."""
        data = replace(self.data, rows=60)
        return replace(self, data=data, settings=self.settings | QUICK, minutes=0.01)


def cases_of(n_seeds: int) -> Iterator[tuple[str, Case]]:
    """Yield the name of each case and the case, in the order of the tables."""
    for data, aids in ((CIRCLES, CIRCLES_AIDS), (WINGS, AIDS)):
        for words, aid in aids.items():
            settings = data.settings | aid
            k = data.truth.n_components
            yield f"consistency: {data.name}, {words}", Case(data, k, settings, n_seeds)
    few = min(n_seeds, MOST_SEEDS)
    for words, settings in STARTS.items():
        for k in NUMBERS:
            case = Case(WINGS, k, settings, few, 0.15, k == NUMBERS[-1])
            yield f"number: K = {k}, {words}", case
    for data in (CIRCLES, WINGS):
        for posterior, own in POSTERIORS.items():
            for flows, others in FLOWS.items():
                settings = data.settings | own | others
                k = data.truth.n_components
                yield f"balance: {data.name}, {posterior}, {flows}", Case(data, k, settings, few)


def run(out: Path, n_seeds: int = 10, quick: bool = False) -> Ledger:
    """Fit each case with each of its seeds, and draw figures of the first with ten components.

    Parameters
    ----------
    out : Path
        An existing folder, for `results.json` and the figures.
    n_seeds : int
        Seeds of the first part. The second and the third have at most three.
    quick : bool
        Use few epochs, rows and numbers of components, only to check that the experiment works.
    """
    cases = dict(cases_of(n_seeds))
    if quick:
        left_out = [f"K = {k}," for k in NUMBERS[1:-1]] + ["middle"]
        cases = {
            name: case.quick()
            for name, case in cases.items()
            if not any(words in name for words in left_out)
        }
    header: dict[str, Any] = {"least_use": LEAST_USE} | {
        name: {"rows_a_component": case.data.rows, **_plain(case.settings)}
        for name, case in cases.items()
    }
    minutes = [case.minutes for case in cases.values() for _ in range(case.n_seeds)]
    command = command_of("components", n_seeds, quick)
    ledger = Ledger(out / "results.json", command, header, minutes)
    for name, case in cases.items():
        for seed in range(case.n_seeds):
            is_drawn = case.is_drawn and seed == 0
            figure = out / f"{stem_of('components', name)}.png" if is_drawn else None
            ledger.fit(name, seed, partial(_fit, case, seed, figure), figure)
    ledger.write()
    return ledger


def in_use(use: Array, least: float = LEAST_USE) -> int:
    """Return how many components have at least this share of the rows: use has shape (K,)."""
    return int(np.sum(use >= least))


def effective_number(use: Array) -> float:
    """Return the exponential of the entropy of the use, from 1 to K: use has shape (K,)."""
    positive = use[use > 0]
    return float(np.exp(-np.sum(positive * np.log(positive))))


def _fit(case: Case, seed: int, figure: Path | None) -> dict[str, float]:
    truth = case.data.truth
    X, _ = truth.sample(case.data.rows, random_state=seed)
    n_fresh = FRESH_ROWS // truth.n_components
    fresh, fresh_labels = truth.sample(n_fresh, random_state=1000 + seed)
    began = time.perf_counter()
    mixture = FlowMixture(case.n_components, random_state=seed).set_params(**case.settings).fit(X)
    seconds = time.perf_counter() - began
    if figure is not None:
        drawn, labels = truth.sample(case.data.rows, random_state=seed)
        plot(mixture, drawn, labels, kind="regions").savefig(figure, bbox_inches="tight")
    log_prob, true_log_prob = mixture.score(fresh), float(truth.log_prob(fresh).mean())
    use = mixture.predict_proba(fresh).mean(axis=0)
    reduced = mixture.without_unused(X, LEAST_USE)
    after = reduced.score(fresh)
    return {
        **clustering_scores(fresh_labels, mixture.predict(fresh)),
        "elbo": float(mixture.elbo(fresh).mean()),
        "log_likelihood": log_prob,
        "true_log_likelihood": true_log_prob,
        "below_truth": true_log_prob - log_prob,
        "gap": float(mixture.gap(fresh).mean()),
        "in_use": in_use(use),
        "effective_number": effective_number(use),
        "kept": reduced.n_components_,
        "log_likelihood_after": after,
        "below_truth_after": true_log_prob - after,
        "seconds": seconds,
    }


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as the results file can hold them: a function by its name."""
    return {name: value.__name__ if callable(value) else value for name, value in settings.items()}
