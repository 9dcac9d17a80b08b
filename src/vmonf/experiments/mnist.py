"""The MNIST experiment, digits 0 to 4: figure 3 and table 1 of the paper.

It fits without labels and with some, and compares with k-means and Gaussian mixtures.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import recall_score
from sklearn.mixture import GaussianMixture

from vmonf import FlowMixture
from vmonf.data.mnist import Images, bits_per_dimension, from_logits, load_mnist, to_logits
from vmonf.experiments.common import PAPER_TRAINING, accuracy, command_of, stem_of
from vmonf.experiments.ledger import Ledger
from vmonf.metrics import best_map, clustering_scores, contingency_table
from vmonf.start import graph_clusters
from vmonf.storage import previous_checkpoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

N_DIGITS = 5
#: Size of the paper's training split. Our settings were chosen on the other 5,000 images of these
#: digits.
N_TRAIN = 25_596
#: Total number of labels, and whether every seed is run or only the first.
LABELS = {0: True, 10: False, 50: False, 100: True, 1000: False}

#: Section 4.3 of the paper.
PAPER: dict[str, Any] = PAPER_TRAINING | {
    "flow": "maf",
    "flow__n_layers": 5,
    "flow__hidden": (200,),
    "posterior__hidden": (512,),
    "training__learning_rate": 1e-4,
    "training__weight_decay": 1e-6,
    "training__batch_size": 100,
    "max_epochs": 100,
}
#: The start is the clusters of the images' neighbour graph. There are few epochs, because the flows
#: overfit the training images early.
OURS: dict[str, Any] = {
    "flow": "maf",
    "flow__n_layers": 3,
    "flow__hidden": (200,),
    "posterior__hidden": (512,),
    "training__pretrain_epochs": 3,
    "training__learning_rate": 1e-3,
    "training__weight_decay": 1.0,
    "max_epochs": 3,
    "validation_fraction": 0.02,
}
QUICK: dict[str, Any] = {
    "flow__n_layers": 1,
    "flow__hidden": (8,),
    "posterior__hidden": (8,),
    "max_epochs": 1,
}
N_QUICK = 300
#: Minutes that a fit takes on two cores.
BASELINE_MINUTES, OUR_MINUTES, PAPER_MINUTES = (0.2, 2.5, 1.5), 1.5, 70.0
#: Number of columns in the grids of images.
N_SHOWN = 10


@dataclass(frozen=True)
class Split:
    """The training images and the test images."""

    train: Images
    test: Images

    @classmethod
    def load(cls, folder: str | os.PathLike[str] | None, quick: bool) -> Split:
        """Load digits 0 to 4: all test images, and the same `N_TRAIN` training images each time."""
        train, test = (images.of(range(N_DIGITS)) for images in load_mnist(folder))
        n_train, n_test = (N_QUICK, N_QUICK) if quick else (N_TRAIN, len(test.digits))
        chosen = np.sort(np.random.default_rng(0).permutation(len(train.digits))[:n_train])
        return cls(
            Images(train.pixels[chosen], train.digits[chosen]),
            Images(test.pixels[:n_test], test.digits[:n_test]),
        )


def case_name(n_labels: int) -> str:
    """Return the name of one of our cases in results and tables."""
    return f"ours, {n_labels} labels" if n_labels else "ours, no labels"


def run(
    out: Path,
    folder: str | os.PathLike[str] | None = None,
    n_seeds: int = 3,
    quick: bool = False,
) -> Ledger:
    """Fit the baselines, our settings with each seed and the paper's with the first.

    Parameters
    ----------
    out : Path
        An existing folder, for `results.json`, the figures and, while a fit runs, its
        checkpoint.
    folder : path, optional
        The folder of MNIST's files; see `vmonf.data.mnist.load_mnist`.
    n_seeds : int
    quick : bool
        Use small flows and few images, only to check that the experiment works.
    """
    split = Split.load(folder, quick)
    more = QUICK if quick else {}
    paper, ours = PAPER | more, OURS | more
    header = {"n_train": len(split.train.digits), "n_test": len(split.test.digits)}
    baselines: dict[str, Callable[[], dict[str, Any]]] = {
        "k-means, raw pixels": partial(_kmeans, split),
        "Gaussian mixture, raw pixels": partial(_gaussian_mixture, split, None, n_starts=1),
        "Gaussian mixture, PCA-100, best of 10": partial(
            _gaussian_mixture, split, 100, n_starts=10
        ),
    }
    fits = [
        (n_labels, seed)
        for n_labels, every_seed in LABELS.items()
        for seed in range(n_seeds if every_seed else 1)
    ]
    ledger = Ledger(
        out / "results.json",
        command_of("mnist", n_seeds, quick),
        header | {"paper's settings": paper, "ours": ours},
        [0.01] * (len(baselines) + len(fits) + 1)
        if quick
        else [*BASELINE_MINUTES, *[OUR_MINUTES] * len(fits), PAPER_MINUTES],
    )
    for name, compute in baselines.items():
        ledger.fit(name, 0, compute)
    for n_labels, seed in fits:
        name = case_name(n_labels)
        files = _files(out, name, seed)
        ledger.fit(name, seed, partial(_ours, split, ours, n_labels, seed, files), files.figure)
    name = "paper's settings"
    files = _files(out, name, 0)
    ledger.fit(name, 0, partial(_paper, split, paper, files), files.figure)
    ledger.write()
    return ledger


@dataclass(frozen=True)
class _Files:
    checkpoint: Path
    figure: Path | None


def _files(out: Path, case: str, seed: int) -> _Files:
    stem = stem_of("mnist", case)
    figure = out / f"{stem}.png" if seed == 0 else None
    return _Files(out / f"{stem}-{seed}.checkpoint", figure)


def _kmeans(split: Split) -> dict[str, Any]:
    began = time.perf_counter()
    train = split.train.pixels / 255.0
    kmeans = KMeans(N_DIGITS, n_init=10, random_state=0).fit(train)
    seconds = time.perf_counter() - began
    found = kmeans.labels_, kmeans.predict(split.test.pixels / 255.0)
    return _agreement(split, *found) | {"seconds": seconds}


def _gaussian_mixture(split: Split, n_axes: int | None, n_starts: int) -> dict[str, Any]:
    began = time.perf_counter()
    train, test = split.train.pixels / 255.0, split.test.pixels / 255.0
    if n_axes is not None:
        pca = PCA(n_axes, random_state=0).fit(train)
        train, test = pca.transform(train), pca.transform(test)
    mixture = GaussianMixture(N_DIGITS, n_init=n_starts, random_state=0).fit(train)
    seconds = time.perf_counter() - began
    return _agreement(split, mixture.predict(train), mixture.predict(test)) | {"seconds": seconds}


def _paper(split: Split, settings: Mapping[str, Any], files: _Files) -> dict[str, Any]:
    mixture = _mixture(settings, 0, files)
    X, test = _logits(split, seed=0)
    mixture.fit(X)
    return _finish(mixture, split, X, test, files, is_labelled=False)


def _ours(
    split: Split, settings: Mapping[str, Any], n_labels: int, seed: int, files: _Files
) -> dict[str, Any]:
    X, test = _logits(split, seed)
    labels = _some_labels(split.train.digits, n_labels, seed)
    began = time.perf_counter()
    clusters = graph_clusters(split.train.pixels / 255.0, N_DIGITS, labels, random_state=seed)
    seconds = time.perf_counter() - began
    epochs: list[dict[str, float]] = []

    def watch(now: FlowMixture) -> None:
        q, exact = now.predict(test), now.predict(test, method="exact")
        epochs.append(
            {
                "epoch": now.n_epochs_,
                "accuracy": accuracy(split.test.digits, q, n_labels > 0),
                "accuracy_exact": accuracy(split.test.digits, exact, n_labels > 0),
                "log_likelihood": now.score(test),
            }
        )

    mixture = _mixture(settings, seed, files)
    mixture.fit(X, labels if n_labels else None, clusters=clusters, watchers=[watch])
    result = _finish(mixture, split, X, test, files, is_labelled=n_labels > 0)
    return result | {
        "start_accuracy": accuracy(split.train.digits, clusters, n_labels > 0),
        "best_epoch": mixture.best_epoch_,
        "epochs": epochs,
        "seconds": result["seconds"] + seconds,
    }


def _mixture(settings: Mapping[str, Any], seed: int, files: _Files) -> FlowMixture:
    mixture = FlowMixture(N_DIGITS, random_state=seed, checkpoint=files.checkpoint, verbose=1)
    return mixture.set_params(**settings)


def _logits(split: Split, seed: int) -> tuple[Array, Array]:
    """Return the logits of the training and test images; the seed gives the noise."""
    return (
        to_logits(split.train.pixels, np.random.default_rng(seed)),
        to_logits(split.test.pixels, np.random.default_rng(1000 + seed)),
    )


def _some_labels(digits: IntArray, n_labels: int, seed: int) -> IntArray:
    """Draw the same number of labels for each digit at random; -1 means no label."""
    random = np.random.default_rng(seed)
    labels = np.full(len(digits), -1)
    for digit in range(N_DIGITS):
        own = np.flatnonzero(digits == digit)
        labels[random.choice(own, min(n_labels // N_DIGITS, len(own)), replace=False)] = digit
    return labels


def _finish(
    mixture: FlowMixture,
    split: Split,
    X: Array,
    test: Array,
    files: _Files,
    *,
    is_labelled: bool,
) -> dict[str, Any]:
    """Return the results of a fit, draw its figure, and delete its checkpoint."""
    found, log_prob = mixture.predict(test), mixture.score_samples(test)
    result = _agreement(split, mixture.predict(X), found)
    exact = mixture.predict(test, method="exact")
    result |= {
        "accuracy": accuracy(split.test.digits, found, is_labelled),
        "accuracy_exact": accuracy(split.test.digits, exact, is_labelled),
        "log_likelihood": float(log_prob.mean()),
        "bits_per_dimension": float(bits_per_dimension(log_prob, test).mean()),
        "gap": float(mixture.gap(test).mean()),
        "seconds": mixture.history_["seconds"][-1],
    }
    if files.figure is not None:
        _draw(mixture, split.train, X).savefig(files.figure, bbox_inches="tight")
    for path in (files.checkpoint, previous_checkpoint(files.checkpoint)):
        path.unlink(missing_ok=True)
    return result


def _agreement(split: Split, train: IntArray, test: IntArray) -> dict[str, Any]:
    """Return scores and contingency tables of both splits, those of the test images first."""
    on_train = clustering_scores(split.train.digits, train)
    return {
        **clustering_scores(split.test.digits, test),
        "macro_accuracy": macro_accuracy(split.test.digits, test),
        **{f"train_{name}": value for name, value in on_train.items()},
        "contingency": _counts(split.test.digits, test),
        "train_contingency": _counts(split.train.digits, train),
    }


def macro_accuracy(digits: IntArray, clusters: IntArray) -> float:
    """Return the mean over digits of the share of its images in the cluster mapped to it."""
    digit_of = best_map(digits, clusters)
    mapped = np.array([digit_of.get(int(cluster), -1) for cluster in clusters])
    return float(recall_score(digits, mapped, labels=np.unique(digits), average="macro"))


def _counts(digits: IntArray, clusters: IntArray) -> list[list[int]]:
    """Count the images of each digit (row) in each cluster (column), including empty ones."""
    table = contingency_table(digits, clusters)
    counts = np.zeros((N_DIGITS, N_DIGITS), dtype=np.int64)
    counts[np.ix_(table.labels, table.clusters)] = table.counts
    whole: list[list[int]] = counts.tolist()
    return whole


def _draw(mixture: FlowMixture, train: Images, X: Array) -> Figure:
    """Draw samples of each component beside the most typical images of its cluster."""
    from vmonf.plots.style import figure_style, fit_panels, new_figure

    cluster = mixture.predict(X)
    log_prob = mixture.component_log_prob(X)
    sampled, typical = [], []
    for c in range(N_DIGITS):
        X_c, _ = mixture.sample(N_SHOWN, component=c, random_state=0)
        sampled.append(from_logits(X_c))
        own = np.flatnonzero(cluster == c)
        best = own[np.argsort(-log_prob[own, c])[:N_SHOWN]]
        blank = np.zeros((N_SHOWN - len(best), train.pixels.shape[1]), dtype=np.uint8)
        typical.append(np.concatenate([train.pixels[best], blank]))
    titles = ("Samples", "Images of the cluster, the likeliest first")
    with figure_style():
        figure = new_figure(12.0, 5.0)
        panels = figure.subplots(1, 2)
        for axes, title, rows in zip(panels, titles, (sampled, typical), strict=True):
            axes.set_title(title)
            axes.imshow(_tiles(rows), cmap="gray_r", vmin=0, vmax=255, aspect="auto")
            axes.set_xticks([])
            axes.set_yticks(
                [28 * c + 14 for c in range(N_DIGITS)], [str(c) for c in mixture.classes_]
            )
            axes.tick_params(length=0)
            for spine in axes.spines.values():
                spine.set_visible(False)
        panels[0].set_ylabel("component")
        width, height = 5.0, 5.0 * N_DIGITS / N_SHOWN
        fit_panels(figure, width, height, "MNIST 0 to 4: a row for each component")
    return figure


def _tiles(rows: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Tile images into one array, with the images of each list in one row."""
    return np.concatenate(
        [np.concatenate([image.reshape(28, 28) for image in row], axis=1) for row in rows]
    )
