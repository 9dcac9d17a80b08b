"""Clusters of a Gaussian mixture, and of one with more Gaussians that are merged."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from vmonf.machine import blas_threads_for
from vmonf.rows import Rows
from vmonf.start.centres import kmeans, random_rows
from vmonf.start.gaussian_mixture import GaussianStart, Shrinkage, mixture_from_clusters
from vmonf.start.gaussians import normalise
from vmonf.start.sample import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Number of mixtures from random rows that "gaussian" tries besides that from k-means.
N_RANDOM = 2
#: Nats, of all rows together, that one of them must gain to be taken.
LEAST_GAIN = 20.0
#: The search for the number of Gaussians ends after this many numbers without a better BIC.
PATIENCE = 2
#: Expectation maximisation ends when an iteration gains less than this, in nats per row.
TOLERANCE = 1e-4


def gaussian_clusters(sample: Sample, n_components: int, seed: int) -> IntArray:
    """Clusters of a mixture of K Gaussians with full covariances: shape (n,).

    The mixture is fitted from k-means, unless one from random rows is much likelier. A mixture that
    is a little likelier often has worse clusters.
    """
    first = sample.once(mixture_of, n_components, seed)
    others = [_mixture_from(random_rows, sample, n_components, seed + i) for i in range(N_RANDOM)]
    best = max(others, key=lambda mixture: _log_likelihood(mixture, sample))
    gain = _log_likelihood(best, sample) - _log_likelihood(first, sample)
    mixture = best if gain > LEAST_GAIN else first
    clusters: IntArray = mixture.log_joint(sample.x).argmax(axis=1)
    return clusters


def merged_clusters(sample: Sample, n_components: int, seed: int) -> IntArray:
    """Clusters of a mixture of K or more Gaussians, merged until K remain: shape (n,).

    The number of Gaussians, up to 3 K + 4, is that of the best BIC. Then the two clusters are
    merged between which a row is most likely assigned to the wrong one.

    Source: Hennig, "Methods for merging Gaussian mixture components" (2010), method DEMP:
    directly estimated misclassification probabilities.
    """
    n, n_features = sample.x.shape
    best, lowest, since = n_components, math.inf, 0
    largest = max(n_components, min(3 * n_components + 4, n // (n_features + 2)))
    for n_gaussians in range(n_components, largest + 1, math.ceil(n_components / 4)):
        mixture = sample.once(mixture_of, n_gaussians, seed)
        n_parameters = n_gaussians + mixture.means.size + _n_covariances(mixture)
        bic = n_parameters * math.log(n) - 2 * _log_likelihood(mixture, sample)
        if bic < lowest:
            best, lowest, since = n_gaussians, bic, 0
        else:
            since += 1
        if since == PATIENCE:
            break
    return sample.once(_all_merges, best, seed)[n_components]


def _all_merges(sample: Sample, n_gaussians: int, seed: int) -> dict[int, IntArray]:
    """The clusters of K' Gaussians, merged two at a time, by the number that remains."""
    mixture = sample.once(mixture_of, n_gaussians, seed)
    _, probability = normalise(mixture.log_joint(sample.x).T)
    return _merged(probability, sample.weight)


def _merged(probability: Array, weight: Array) -> dict[int, IntArray]:
    """Clusters from the probabilities (K', n) of K' Gaussians, by the number that remains.

    A merge changes the misclassification of the two clusters alone, and that of the few rows that
    go over to them from a third.
    """
    number = len(probability)
    assigned: IntArray = probability.argmax(axis=0)
    inside = assigned == np.arange(number)[:, None]
    total = probability @ weight
    # The weight of rows that belong to one cluster, by their probability, and are in another.
    wrong = (probability * weight) @ inside.T.astype(np.float64)
    np.fill_diagonal(wrong, 0.0)
    remains = np.ones(number, dtype=bool)
    clusters = {number: assigned.copy()}
    for left in range(number - 1, 0, -1):
        share = wrong / np.maximum(total[:, None], 1e-300)
        i, j = sorted(np.unravel_index(share.argmax(), share.shape))
        remains[j] = False
        for values in (probability, total, wrong, wrong.T):
            values[i] += values[j]
            values[j] = 0.0
        own = (assigned == i) | (assigned == j)
        highest = np.take_along_axis(probability, assigned[None], axis=0)[0]
        moved = np.flatnonzero(~own & (probability[i] > highest))
        of_moved = probability[:, moved] * weight[moved]
        for k in np.unique(assigned[moved]):
            wrong[:, k] -= of_moved[:, assigned[moved] == k].sum(axis=1)
        wrong[:, i] += of_moved.sum(axis=1)
        np.fill_diagonal(wrong, 0.0)
        assigned[own] = assigned[moved] = i
        clusters[left] = (np.cumsum(remains) - 1)[assigned]
    return clusters


def mixture_of(sample: Sample, n_components: int, seed: int) -> GaussianStart:
    """A mixture of K Gaussians with full covariances, from k-means."""
    return _mixture_from(kmeans, sample, n_components, seed)


def _mixture_from(
    first: Callable[[Rows[NDArray[Any]], int, int], IntArray],
    sample: Sample,
    n_components: int,
    seed: int,
) -> GaussianStart:
    """A mixture of K Gaussians with full covariances, from first clusters of the rows."""
    n, n_features = sample.x.shape
    nowhere = np.full(n, -1)
    rows = Rows(sample.x, sample.weight, nowhere, nowhere)
    # As many rows as features: enough that no covariance is singular.
    shrinkage = Shrinkage(float(n_features), 0.1)
    cluster = first(rows, n_components, seed)
    with blas_threads_for(n_features):
        return mixture_from_clusters(
            sample.x, sample.weight, cluster, n_components, shrinkage, TOLERANCE
        )


def _log_likelihood(mixture: GaussianStart, sample: Sample) -> float:
    return float(mixture.log_prob(sample.x) @ sample.weight)


def _n_covariances(mixture: GaussianStart) -> int:
    """Number of parameters of the covariances."""
    covariances = mixture.covariances
    if covariances.ndim == 2:
        return int(covariances.size)
    n_components, n_features, _ = covariances.shape
    return int(n_components * n_features * (n_features + 1) // 2)
