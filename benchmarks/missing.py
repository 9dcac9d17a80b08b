"""Missing values: `missing="marginal"` beside imputation followed by the same fit.

    python benchmarks/missing.py --threads 1 [--splits 3] [--only NAME ...]
    python benchmarks/missing.py --write-page    # the page's table, from the results file

Of each table a quarter of the rows is held out, whole. From the others 10 or 30% of the cells are
removed at random. All contestants are `FlowMixture` with its defaults: on the rows with gaps, on
the rows that scikit-learn's imputers fill, on the complete rows alone, and, as what is to be
approached, on the rows before anything was removed. Scores are the mean log-likelihood of the
held-out rows, in nats, and the adjusted Rand index of their clusters with the known classes.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from statistics import mean
from typing import TYPE_CHECKING, Any

import common
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - makes the next possible
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import train_test_split

from vmonf import FlowMixture
from vmonf.data import Pinwheel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

SHARES = (0.1, 0.3)
#: Complete rows alone are fitted if there are at least so many for each component.
FEWEST_COMPLETE = 5


def _of_scikit_learn(load: Callable[..., Any], n_features: int) -> tuple[Array, Array | None]:
    """The first features of a table, with noise where values repeat, and its classes."""
    X, y = load(return_X_y=True)
    X = X[:, :n_features].astype(float)
    random = np.random.default_rng(0)
    for column in X.T:
        values = np.unique(column)
        if len(values) < 0.5 * len(column):
            column += np.diff(values).min() * random.uniform(-0.5, 0.5, len(column))
    return X, None if load is load_diabetes else y


def _bent(n_features: int) -> tuple[Array, Array]:
    """Three bent clusters that overlap a little."""
    random = np.random.default_rng(n_features)
    y = random.integers(0, 3, 2000)
    X = random.standard_normal((2000, n_features))
    X[:, 1] += np.square(X[:, 0]) - 1
    X = X @ random.standard_normal((n_features, n_features)) / 1.5
    return X + 3 * random.standard_normal((3, n_features))[y], y


#: The tables, with their classes if they have any. The number of components is that of the
#: classes, or 3.
TABLES: dict[str, Callable[[], tuple[Array, Array | None]]] = {
    "iris": lambda: _of_scikit_learn(load_iris, 4),
    "wine": lambda: _of_scikit_learn(load_wine, 13),
    "breast cancer": lambda: _of_scikit_learn(load_breast_cancer, 10),
    "diabetes": lambda: _of_scikit_learn(load_diabetes, 10),
    "pinwheel": lambda: Pinwheel().sample(260, random_state=0),
    "bent, 4 features": lambda: _bent(4),
    "bent, 8 features": lambda: _bent(8),
}


def _imputed(imputer: Any) -> Callable[[Array], Array]:
    return lambda X: imputer.fit_transform(X)


#: What each contestant makes of the rows with gaps.
CONTESTANTS: dict[str, Callable[[Array], Array]] = {
    "marginal": lambda X: X,
    "IterativeImputer": _imputed(IterativeImputer(random_state=0)),
    "IterativeImputer, drawn": _imputed(IterativeImputer(sample_posterior=True, random_state=0)),
    "KNNImputer": _imputed(KNNImputer()),
    "complete rows": lambda X: X[~np.isnan(X).any(axis=1)],
}


def with_gaps(X: Array, share: float, seed: int) -> Array:
    """Rows in which a share of the cells is NaN, without those that have no value left."""
    is_gap = np.random.default_rng(seed).random(X.shape) < share
    X = np.where(is_gap, np.nan, X)
    return X[~is_gap.all(axis=1)]


def fits_of(name: str, split: int, **parameters: Any) -> Iterator[dict[str, object]]:
    """Fit all contestants to one split of a table."""
    X, y = TABLES[name]()
    labels = np.zeros(len(X), dtype=int) if y is None else y
    n_components = 3 if y is None else len(np.unique(labels))
    train, fresh, _, classes = train_test_split(X, labels, test_size=0.25, random_state=split)
    shift, scale = train.mean(axis=0), train.std(axis=0)
    train, fresh = (train - shift) / scale, (fresh - shift) / scale

    def fit(contestant: str, share: float, rows: Array) -> dict[str, object]:
        missing = "marginal" if contestant == "marginal" else "refuse"
        began = time.perf_counter()
        mixture = FlowMixture(n_components, missing=missing, random_state=split, **parameters)
        mixture.fit(rows)
        seconds = time.perf_counter() - began
        agreement = adjusted_rand_score(classes, mixture.predict(fresh))
        return {
            "table": name,
            "split": split,
            "share": share,
            "contestant": contestant,
            "log_likelihood": float(mixture.score(fresh)),
            "ari": None if y is None else float(agreement),
            "seconds": seconds,
        }

    yield fit("nothing removed", 0.0, train)
    for share in SHARES:
        rows = with_gaps(train, share, split)
        for contestant, made in CONTESTANTS.items():
            filled = made(rows)
            if len(filled) >= FEWEST_COMPLETE * n_components:
                yield fit(contestant, share, filled)


def fits(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Fit all contestants to all splits of all tables."""
    n_splits, names, parameters = arguments.splits, arguments.only, {}
    if arguments.quick:
        n_splits, names, parameters = 1, ["iris"], {"max_epochs": 2}
    for split in range(n_splits):
        for name in names:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield from fits_of(name, split, **parameters)


def page(results: dict[str, Any]) -> list[str]:
    """Return the tables of the page."""
    fits = results["fits"]
    names = list(dict.fromkeys(fit["table"] for fit in fits))
    lines = [
        f"From `results/missing.json`: `{results['command']}` at commit {results['commit']}, "
        f"{results['date']}, {results['machine']}.",
    ]
    for measured, title in (
        ("log_likelihood", "Held-out log-likelihood of whole rows, in nats per row"),
        ("ari", "Adjusted Rand index of the clusters of whole held-out rows"),
    ):
        lines += [
            "",
            f"{title}; means over the splits.",
            "",
            f"| table | removed | {' | '.join(CONTESTANTS)} | nothing removed |",
            f"|---|---:|{'---:|' * (len(CONTESTANTS) + 1)}",
        ]
        for name in names:
            for share in SHARES:
                cells = [
                    _mean(fits, name, share, contestant, measured) for contestant in CONTESTANTS
                ]
                whole = _mean(fits, name, 0.0, "nothing removed", measured)
                if whole is not None:
                    shown = ["" if cell is None else f"{cell:.3f}" for cell in (*cells, whole)]
                    lines.append(f"| {name} | {share:.0%} | {' | '.join(shown)} |")
    return lines


def _mean(
    fits: list[dict[str, Any]], name: str, share: float, contestant: str, measured: str
) -> float | None:
    values = [
        fit[measured]
        for fit in fits
        if (fit["table"], fit["share"], fit["contestant"]) == (name, share, contestant)
        and fit[measured] is not None
    ]
    return mean(values) if values else None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))


def main() -> None:
    """Run, print, and write the results file after each fit."""
    common.run(__doc__, "missing", common.each("fits", fits), page, add=add_options)


if __name__ == "__main__":
    main()
