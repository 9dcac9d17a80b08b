"""The number of Gaussians in each component of a start, chosen by held-out likelihood.

A cluster that is a ring or a wing is not one Gaussian, but it is a mixture of several, its atoms.
A mixture of atoms that are grouped into components keeps clusters of any shape, with or without
flows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from vmonf.judge import compare
from vmonf.rows import Rows, folds_of
from vmonf.start.gaussian_mixture import Shrinkage, mixture_from_clusters
from vmonf.start.validation import validated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    ArrayRows = Rows[NDArray[Any]]

#: The numbers of atoms that are tried, in this order.
NUMBERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
#: With more features than this, each component is one Gaussian.
MAX_FEATURES = 32
#: An atom has at least this many rows for each number of its mean and covariance.
ROWS_PER_PARAMETER = 2
#: The search ends after this many numbers without a better held-out likelihood.
PATIENCE = 2
#: Cross-validation uses at most this many rows of a component.
MAX_ROWS = 2_000
#: Expectation maximisation in cross-validation ends at this gain of an iteration, in nats per row.
TOLERANCE = 1e-3
#: More atoms are taken only for a gain of more than this many standard errors.
STANDARD_ERRORS = 1.0
#: The rows of a core are told from others by the distance to this neighbour.
NEIGHBOUR = 3
#: The distances of all other rows are at least this many times the largest one in the core.
GAP = 3.0


def number_of_atoms(rows: ArrayRows, random: np.random.Generator, most: int = NUMBERS[-1]) -> int:
    """The number of Gaussians, found by cross-validation, whose mixture fits best.

    A larger number is taken only if the gain in held-out likelihood exceeds chance.

    Parameters
    ----------
    rows : Rows
        The rows of one component, as arrays in standardised units.
    random : numpy.random.Generator
        Draws the folds.
    most : int
        Largest number to try.
    """
    n_rows, n_features = rows.x.shape
    fewest = ROWS_PER_PARAMETER * n_features * (n_features + 3) // 2
    # A core is so much narrower than the rest that few rows suffice to tell them apart.
    has_core = n_features <= MAX_FEATURES and core_of(rows.x, random) is not None
    if n_features > MAX_FEATURES or (n_rows < 2 * fewest and not has_core):
        return 1
    chosen = random.permutation(n_rows)[:MAX_ROWS]
    rows = rows.take(chosen)
    n_folds = 5 if len(chosen) <= 600 else 3
    n_train = len(chosen) * (n_folds - 1) // n_folds
    shrinkage = Shrinkage(1.0, 0.1)
    best, since = 1, 0
    highest: Array | None = None
    for number in NUMBERS:
        enough = n_train >= number * fewest or (number == 2 and has_core)
        if number > most or (number > 1 and not enough):
            break
        in_atoms = replace(rows, cluster=clusters_within(rows, number, random))
        folds = list(folds_of(in_atoms, n_folds))
        log_prob = validated(
            (
                (
                    mixture_from_clusters(
                        train.x, train.weight, train.cluster, number, shrinkage, TOLERANCE
                    ).log_prob(test.x),
                    test.weight,
                )
                for train, test in folds
            ),
            highest,
        )
        weight = np.concatenate([test.weight for _, test in folds])
        if log_prob is not None and (highest is None or is_better(log_prob, highest, weight)):
            best, highest, since = number, log_prob, 0
        else:
            since += 1
        if since == PATIENCE:
            break
    return best


def is_better(log_prob: Array, reference: Array, weight: Array) -> bool:
    """Whether a density with more atoms has a higher held-out likelihood by more than chance."""
    return compare(log_prob, reference, weight).exceeds_chance(STANDARD_ERRORS)


def clusters_within(rows: ArrayRows, number: int, random: np.random.Generator) -> IntArray:
    """First clusters of the rows of a component: shape (n,).

    If the rows have a core, it is the last cluster. The other clusters are found by k-means.
    """
    cluster = np.zeros(rows.n_rows, dtype=np.int64)
    if number == 1:
        return cluster
    core = core_of(rows.x, random)
    others = np.arange(rows.n_rows)
    if core is not None:
        others = np.flatnonzero(~core)
        cluster[core] = number - 1
        number -= 1
    if 1 < number <= len(others):
        seed = int(random.integers(np.iinfo(np.int32).max))
        kmeans = KMeans(number, n_init=1, random_state=seed)
        cluster[others] = kmeans.fit(rows.x[others], sample_weight=rows.weight[others]).labels_
    return cluster


def core_of(x: Array, random: np.random.Generator) -> NDArray[np.bool_] | None:
    """Mask of the rows that are much denser than the others: shape (n,); None if there are none.

    K-means does not find a spike among rows that are far wider, since its rows are near to many
    others. But the distances of its rows to their neighbours are less than those of all others,
    with a gap between.

    Parameters
    ----------
    x : array of shape (n, D)
    random : numpy.random.Generator
        With many rows, draws those among which the neighbours are found.
    """
    if len(x) < 2 * (NEIGHBOUR + 1):
        return None
    among = x if len(x) <= MAX_ROWS else x[random.permutation(len(x))[:MAX_ROWS]]
    distances, _ = NearestNeighbors(n_neighbors=NEIGHBOUR + 1).fit(among).kneighbors(x)
    logs = np.log(np.maximum(distances[:, -1], np.finfo(np.float64).tiny))
    inner = np.sort(logs)[NEIGHBOUR : len(x) - NEIGHBOUR]
    widest = int(np.diff(inner).argmax())
    if inner[widest + 1] - inner[widest] < np.log(GAP):
        return None
    core: NDArray[np.bool_] = logs <= inner[widest]
    return core
