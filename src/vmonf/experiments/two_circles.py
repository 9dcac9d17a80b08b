"""The two circles experiment: fits without labels, with many and with few, figure 2 of the paper.

The paper's ESANN text says 1,024 labelled and 64 unlabelled rows, and the thesis says the reverse;
both are run.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vmonf import FlowMixture
from vmonf.data import TwoCircles
from vmonf.experiments.common import PAPER_TRAINING, accuracy, command_of, stem_of
from vmonf.experiments.ledger import Ledger
from vmonf.metrics import clustering_scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

CIRCLES = TwoCircles()
FRESH_ROWS_A_CIRCLE = 2000
#: A sample is stray if it is more than this many standard deviations of the noise from the nearest
#: circle.
STRAY_WIDTHS = 4.0
#: Numbers of labelled and unlabelled rows.
ROWS = ((0, 1024), (1024, 64), (64, 1024), (16, 1024), (11, 1024), (4, 1024))
#: The numbers of rows that the figures show and a quick run uses.
DRAWN_ROWS = ((0, 1024), (64, 1024))

#: Section 4.2 of the paper.
PAPER: dict[str, Any] = PAPER_TRAINING | {
    "flow": "realnvp",
    "flow__n_layers": 10,
    "flow__hidden": (8,),
    "posterior__hidden": (16, 16),
    "training__pretrain_epochs": 300,
    "training__learning_rate": 1e-3,
    "training__batch_size": 128,
    "max_epochs": 500,
}
#: Chosen on rows of seeds that the experiment does not use.
FROM_GRAPH: dict[str, Any] = {
    "flow": "nsf",
    "flow__n_layers": 6,
    "base": 1,  # several atoms are ahead after pretraining, but not at the end
    "init": "graph",
    "training__learning_rate": 6e-3,
    "training__learning_rate_schedule": "cosine",
    "training__batch_size": 128,
    "max_epochs": 200,
    "training__patience": None,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "paper's settings": PAPER,
    "our defaults": {},
    "our defaults, splines": {"flow": "nsf"},
    "from the graph, splines": FROM_GRAPH,
}
QUICK = {"max_epochs": 3, "training__pretrain_epochs": 2}
#: Minutes that a fit takes on two cores.
MINUTES, QUICK_MINUTES = 0.2, 0.01


def case_name(setting: str, n_labelled: int, n_unlabelled: int) -> str:
    """Return the name of a case in results and tables."""
    return f"{setting}: {n_labelled} labels + {n_unlabelled}"


def run(out: Path, n_seeds: int = 10, quick: bool = False) -> Ledger:
    """Fit each setting to each number of labels with each seed, and draw figures of the first.

    Parameters
    ----------
    out : Path
        An existing folder, for `results.json`, a figure for each setting and the models of the
        first seed.
    n_seeds : int
    quick : bool
        Use few epochs and two numbers of labels, only to check that the experiment works.
    """
    counts = DRAWN_ROWS if quick else ROWS
    settings = {name: own | (QUICK if quick else {}) for name, own in SETTINGS.items()}
    command = command_of("two-circles", n_seeds, quick)
    header = {"rows": counts, "noise_std": CIRCLES.noise_std, **settings}
    minutes = [QUICK_MINUTES if quick else MINUTES] * (len(settings) * len(counts) * n_seeds)
    ledger = Ledger(out / "results.json", command, header, minutes)
    for seed in range(n_seeds):  # outermost, so that an interrupted run has every case
        for name, own in settings.items():
            for n_labelled, n_unlabelled in counts:
                case = case_name(name, n_labelled, n_unlabelled)
                model = _model_file(out, case) if seed == 0 else None
                fit = partial(_fit, own, seed, n_labelled, n_unlabelled, model)
                ledger.fit(case, seed, fit, model)
    for name in settings:
        shown = [
            (FlowMixture.load(_model_file(out, case_name(name, *rows))), *_rows(*rows, seed=0))
            for rows in DRAWN_ROWS
        ]
        figure = _draw(f"Two circles, {name}: without labels, and with some", shown)
        figure.savefig(out / f"{stem_of('two-circles', name)}.png", bbox_inches="tight")
    ledger.write()
    return ledger


def _model_file(out: Path, case: str) -> Path:
    return out / f"{stem_of('two-circles', case)}.vmonf"


def _rows(n_labelled: int, n_unlabelled: int, seed: int) -> tuple[Array, IntArray]:
    """Return rows and their labels, where -1 means no label."""
    n_rows = n_labelled + n_unlabelled
    X, circle = CIRCLES.sample((n_rows + 1) // 2, random_state=seed)
    X, circle = X[:n_rows], circle[:n_rows]
    chosen = _spread(circle, n_labelled)
    labels = np.full(n_rows, -1)
    labels[chosen] = circle[chosen]
    return X, labels


def _fit(
    settings: dict[str, Any], seed: int, n_labelled: int, n_unlabelled: int, model: Path | None
) -> dict[str, float]:
    X, labels = _rows(n_labelled, n_unlabelled, seed)
    fresh, fresh_circle = CIRCLES.sample(FRESH_ROWS_A_CIRCLE, random_state=1000 + seed)
    began = time.perf_counter()
    mixture = FlowMixture(n_components=2, random_state=seed).set_params(**settings)
    mixture.fit(X, labels if n_labelled else None)
    seconds = time.perf_counter() - began
    if model is not None:
        mixture.save(model)
    clusters = mixture.predict(fresh)
    exact = mixture.predict(fresh, method="exact")
    log_likelihood = mixture.score(fresh)
    truth = float(np.mean(CIRCLES.log_prob(fresh)))
    samples, _ = mixture.sample(len(fresh))
    return {
        **clustering_scores(fresh_circle, clusters),
        "accuracy": accuracy(fresh_circle, clusters, n_labelled > 0),
        "accuracy_exact": accuracy(fresh_circle, exact, n_labelled > 0),
        "log_likelihood": log_likelihood,
        "true_log_likelihood": truth,
        "below_truth": truth - log_likelihood,
        "stray": stray_share(samples),
        "gap": float(np.mean(mixture.gap(fresh))),
        "seconds": seconds,
    }


def stray_share(samples: Array) -> float:
    """Return the share of stray samples."""
    radius = np.linalg.norm(samples, axis=1)
    radii = np.array([CIRCLES.outer_radius, CIRCLES.inner_radius])
    distance = np.abs(radius[:, None] - radii).min(axis=1)
    return float(np.mean(distance > STRAY_WIDTHS * CIRCLES.noise_std))


def _spread(circle: IntArray, n_labelled: int) -> list[int]:
    """Choose rows to label, half of each circle; the outer one has one more if odd."""
    halves = [np.flatnonzero(circle == c)[: (n_labelled + 1 - c) // 2] for c in (0, 1)]
    return [int(row) for half in halves for row in half]


def _draw(sentence: str, shown: list[tuple[FlowMixture, Array, IntArray]]) -> Figure:
    """Draw figure 2 of the paper: for each mixture its rows, and samples over its regions."""
    from vmonf.plots.regions import draw_regions
    from vmonf.plots.rows import Subject
    from vmonf.plots.style import (
        draw_points,
        figure_style,
        fit_panels,
        handles,
        legend_below,
        new_figure,
    )

    width, reach, area = 3.4, (-1.05, 1.05), 7.0
    titles = []
    for _, _, labels in shown:
        n_labelled = int(np.sum(labels >= 0))
        words = f"{n_labelled} labels, {len(labels) - n_labelled:,} rows without"
        titles += [
            f"Data: {words if n_labelled else f'{len(labels):,} rows without labels'}",
            "Model: samples over its regions",
        ]
    with figure_style():
        figure = new_figure(2 * width + 2, len(shown) * (width + 1) + 1)
        panels = figure.subplots(len(shown), 2, squeeze=False).ravel()
        for axes, words in zip(panels, titles, strict=True):
            axes.set_title(words)
        for row, (mixture, X, labels) in enumerate(shown):
            subject = Subject(mixture, X, labels)
            given, sampled = subject.given(), subject.sampled(len(X))
            data, model = panels[2 * row : 2 * row + 2]
            model.tick_params(labelleft=False)
            draw_points(data, given.X, given.codes, given.looks, 3 * area)
            draw_regions(model, subject, (reach, reach))
            draw_points(model, sampled.X, sampled.codes, sampled.looks, area)
            for axes, points in ((data, given), (model, sampled)):
                axes.set(xlim=reach, ylim=reach)
                legend_below(axes, handles(points.entries, "point"), width)
        fit_panels(figure, width, width, sentence)
    return figure
