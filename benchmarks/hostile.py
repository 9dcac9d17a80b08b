"""Hostile tables: held-out log-likelihood of the defaults beside scikit-learn's Gaussian mixtures.

    python benchmarks/hostile.py --threads 1 [--tables 300]
    python benchmarks/hostile.py --write-page    # the page's table, from the results file

Each table is drawn at random: a mixture of up to four Gaussian, curved, heavy-tailed or bounded
clusters, with one or two faults of `FAULTS`; its rows, columns and K are drawn too, and K need not
be the number of clusters. Fresh rows of the same distribution are scored. The reference is the
`GaussianMixture` with the same K whose covariance type is best on a fifth of the training rows,
fitted again to all of them. Both see the standardised table, and the units are its units.

A table that is refused with a sentence, such as one with a constant column, is counted apart.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import common
import numpy as np
from sklearn.mixture import GaussianMixture

from vmonf import FlowMixture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Random = np.random.Generator

N_FRESH = 2000
TYPES = ("full", "tied", "diag", "spherical")
#: A fit that is worse than the reference by more than this, in nats per row, counts as worse.
WORSE = 0.05


# ------------------------------------------------------------------ tables


def _clusters(random: Random, n_rows: int, n_features: int) -> Array:
    """Rows of one to four clusters, each Gaussian, curved, heavy-tailed or bounded."""
    kinds = random.integers(0, 4, size=random.integers(1, 5))
    centres = 4 * random.standard_normal((len(kinds), n_features))
    mixings = random.standard_normal((len(kinds), n_features, n_features))
    weights = random.dirichlet(np.full(len(kinds), 2.0))
    of_row = random.choice(len(kinds), size=n_rows, p=weights)
    X = random.standard_normal((n_rows, n_features))
    for cluster, kind in enumerate(kinds):
        own = of_row == cluster
        shape = (int(own.sum()), n_features)
        if kind == 1 and n_features > 1:
            X[own, 1] += np.square(X[own, 0])
        elif kind == 2:
            X[own] = random.standard_t(3, shape)
        elif kind == 3:
            X[own] = random.uniform(-2, 2, shape)
        X[own] = X[own] @ mixings[cluster] + centres[cluster]
    return X


def _singular(random: Random, X: Array) -> Array:
    """Nearly a plane: the rest of the directions has a width of 1e-2 to 1e-6."""
    n_features = X.shape[1]
    rank = max(1, n_features // 2)
    plane = X[:, :rank] @ random.standard_normal((rank, n_features))
    width = 10 ** random.uniform(-6, -2)
    return plane + width * random.standard_normal(X.shape) * np.abs(plane).mean()


def _ties(random: Random, X: Array) -> Array:
    """Rounded to about ten to a thousand steps."""
    step = np.ptp(X, axis=0) / 10 ** random.uniform(1, 3)
    return np.round(X / step) * step


def _scales(random: Random, X: Array) -> Array:
    """Columns of scales from 1e-9 to 1e9, and far from zero."""
    return (X + 10 * random.standard_normal(X.shape[1])) * 10 ** random.uniform(-9, 9, X.shape[1])


def _outliers(random: Random, X: Array) -> Array:
    """One row in a hundred a thousand to a million deviations away."""
    far = random.random(len(X)) < 0.01
    X = X.copy()
    X[far] *= 10 ** random.uniform(3, 6)
    return X


def _widths(random: Random, X: Array) -> Array:
    """A third of the rows drawn together, to a thousandth of their width."""
    X = X.copy()
    narrow = random.random(len(X)) < 1 / 3
    X[narrow] *= 10 ** random.uniform(-3, -1)
    return X


def _spike(random: Random, X: Array) -> Array:
    """A tenth of the rows in a spike of width 1e-3, on a uniform distribution."""
    is_spike = random.random((len(X), 1)) < 0.1
    uniform = random.uniform(-1, 1, X.shape)
    return np.where(is_spike, 0.3 + 1e-3 * random.standard_normal(X.shape), uniform)


def _bounded(random: Random, X: Array) -> Array:
    """Cut at a bound by taking absolute values, in half of the columns."""
    cut = random.random(X.shape[1]) < 0.5
    cut[0] = True
    return np.where(cut, np.abs(X), X)


def _skewed(random: Random, X: Array) -> Array:
    """Exponentials of the first column, with a long tail."""
    X = X.copy()
    X[:, 0] = np.exp(X[:, 0] / X[:, 0].std() * random.uniform(0.5, 1.5))
    return X


FAULTS: dict[str, Callable[[Random, Array], Array]] = {
    "singular": _singular,
    "ties": _ties,
    "scales": _scales,
    "outliers": _outliers,
    "widths": _widths,
    "spike": _spike,
    "bounded": _bounded,
    "skewed": _skewed,
}


def draw(seed: int, most_rows: int) -> tuple[Array, Array, int, list[str]]:
    """Draw a table: training rows, fresh rows, K, and the names of its faults."""
    random = np.random.default_rng(seed)
    n_rows = int(np.exp(random.uniform(math.log(2), math.log(most_rows))))
    n_features = int(random.integers(1, 11))
    names = random.choice(list(FAULTS), size=random.integers(1, 3), replace=False).tolist()
    X = _clusters(random, n_rows + N_FRESH, n_features)
    for name in names:
        X = FAULTS[name](random, X)
    n_components = int(min(n_rows, np.exp(random.uniform(0, math.log(31)))))
    X = random.permutation(X)
    return X[:n_rows], X[n_rows:], n_components, names


# ------------------------------------------------------------------ contestants


def reference(X: Array, n_components: int, seed: int) -> GaussianMixture | None:
    """Return the Gaussian mixture whose type is best on a fifth of the training rows."""
    n_chosen = max(1, len(X) // 5)
    best, chosen = -math.inf, None
    for kind in TYPES:
        try:
            fitted = _gaussians(kind, min(n_components, len(X) - n_chosen), seed)
            score = fitted.fit(X[n_chosen:]).score(X[:n_chosen])
        except ValueError:
            continue
        if score > best:
            best, chosen = score, kind
    if chosen is None:
        return None
    try:
        return _gaussians(chosen, n_components, seed).fit(X)
    except ValueError:
        return None


def _gaussians(kind: str, n_components: int, seed: int) -> GaussianMixture:
    return GaussianMixture(n_components, covariance_type=kind, random_state=seed)


def measure(seed: int, most_rows: int, **parameters: Any) -> dict[str, object]:
    """Fit both to one table."""
    train, fresh, n_components, names = draw(seed, most_rows)
    found: dict[str, object] = {
        "seed": seed,
        "faults": names,
        "rows": len(train),
        "features": train.shape[1],
        "components": n_components,
    }
    scale = train.std(axis=0)
    if (scale > 0).all():
        train, fresh = (train - train.mean(axis=0)) / scale, (fresh - train.mean(axis=0)) / scale
    began = time.perf_counter()
    try:
        mixture = FlowMixture(n_components, random_state=seed, **parameters).fit(train)
        of_rows = mixture.score_samples(fresh)
    except ValueError as error:
        return found | {"refused": str(error)}
    found["seconds"] = time.perf_counter() - began
    found["kept"] = mixture.verdict_.kept
    found["ours"] = float(of_rows.mean())
    other = reference(train, n_components, seed)
    if other is not None:
        theirs = other.score_samples(fresh)
        found["reference"] = float(theirs.mean())
        found["error"] = float((of_rows - theirs).std() / math.sqrt(len(fresh)))
    return found


def tables(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Fit both to all tables."""
    n_tables, most_rows, parameters = arguments.tables, arguments.most_rows, {}
    if arguments.quick:
        n_tables, most_rows, parameters = 6, 200, {"max_epochs": 2}
    for seed in range(n_tables):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = measure(seed, most_rows, **parameters)
        yield found


# ------------------------------------------------------------------ page


def page(results: dict[str, Any]) -> list[str]:
    """Return the table of the page."""
    tables = results["tables"]
    compared = [each for each in tables if "reference" in each]
    lines = [
        common.source(results, "hostile"),
        "",
        "Nats per fresh row above the Gaussian mixture with the same K, of the type that is best "
        "on a fifth of the training rows. A table with two faults counts with both.",
        "",
        f"| fault | tables | refused | worse by {WORSE} | worst | median | best |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in ("all", *FAULTS):
        own = [each for each in compared if name == "all" or name in each["faults"]]
        refused = [t for t in tables if "refused" in t and (name == "all" or name in t["faults"])]
        gains = sorted(each["ours"] - each["reference"] for each in own)
        if not gains:
            continue
        n_worse = sum(gain < -WORSE for gain in gains)
        lines.append(
            f"| {name} | {len(own)} | {len(refused)} | {n_worse} | {_shown(gains[0])} "
            f"| {_shown(gains[len(gains) // 2])} | {_shown(gains[-1])} |"
        )
    return lines


def _shown(gain: float) -> str:
    return f"{gain:+.2f}" if abs(gain) < 100 else f"{'above +' if gain > 0 else 'below -'}100"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--tables", type=int, default=300, help="seeds 0 to N - 1")
    parser.add_argument("--most-rows", type=int, default=5000)


def main() -> None:
    """Run, print, and write the results file after each part."""
    common.run(__doc__, "hostile", common.each("tables", tables), page, add=add_options)


if __name__ == "__main__":
    main()
