"""The pinwheel: five wings, found without labels (figure 1 of the paper)."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vmonf import FlowMixture
from vmonf.data import Pinwheel
from vmonf.experiments.common import PAPER_TRAINING, command_of, stem_of
from vmonf.experiments.ledger import Ledger
from vmonf.metrics import clustering_accuracy, clustering_scores
from vmonf.plots import plot

PINWHEEL = Pinwheel(rate=0.4)
ROWS_A_WING = 512
FRESH_ROWS_A_WING = 2000

#: Section 4.1 of the paper.
PAPER: dict[str, Any] = PAPER_TRAINING | {
    "flow": "realnvp",
    "n_layers": 8,
    "hidden": (8,),
    "posterior_hidden": (3,),
    "learning_rate": 1e-3,
    "batch_size": 512,
    "max_epochs": 400,
}
SETTINGS: dict[str, dict[str, Any]] = {"paper's settings": PAPER, "our defaults": {}}
QUICK = {"max_epochs": 5}
#: Of a fit, on two cores.
MINUTES, QUICK_MINUTES = 0.1, 0.01


def run(out: Path, n_seeds: int = 10, quick: bool = False) -> Ledger:
    """Fit each setting from each seed; figures are of the first.

    Parameters
    ----------
    out : Path
        A folder that is there. `results.json` and a figure for each setting go into it.
    n_seeds : int
    quick : bool
        Few epochs and rows: shows that it works, not what it reaches.
    """
    rows = 60 if quick else ROWS_A_WING
    settings = {name: own | (QUICK if quick else {}) for name, own in SETTINGS.items()}
    command = command_of("pinwheel", n_seeds, quick)
    header = {"rows_a_wing": rows, "rate": PINWHEEL.rate, **settings}
    minutes = [QUICK_MINUTES if quick else MINUTES] * (len(settings) * n_seeds)
    ledger = Ledger(out / "results.json", command, header, minutes)
    for name, own in settings.items():
        figure = out / f"{stem_of('pinwheel', name)}.png"
        for seed in range(n_seeds):
            ledger.fit(name, seed, partial(_fit, own, seed, rows, figure if seed == 0 else None))
    ledger.write()
    return ledger


def _fit(settings: dict[str, Any], seed: int, rows: int, figure: Path | None) -> dict[str, float]:
    X, wing = PINWHEEL.sample(rows, random_state=seed)
    fresh, fresh_wing = PINWHEEL.sample(FRESH_ROWS_A_WING, random_state=1000 + seed)
    began = time.perf_counter()
    mixture = FlowMixture(n_components=5, random_state=seed, **settings).fit(X)
    seconds = time.perf_counter() - began
    if figure is not None:
        plot(mixture, X, wing, kind="regions").savefig(figure, bbox_inches="tight")
    clusters = mixture.predict(fresh)
    log_likelihood = mixture.score(fresh)
    truth = float(np.mean(PINWHEEL.log_prob(fresh)))
    return {
        **clustering_scores(fresh_wing, clusters),
        "accuracy_exact": clustering_accuracy(fresh_wing, mixture.predict(fresh, method="exact")),
        "log_likelihood": log_likelihood,
        "true_log_likelihood": truth,
        "below_truth": truth - log_likelihood,
        "gap": float(np.mean(mixture.gap(fresh))),
        "seconds": seconds,
    }
