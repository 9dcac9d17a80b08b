"""The metric of the deviations within clusters, in which the starts cluster the rows once more.

In standardised columns, a column that tells clusters apart is made narrow by just these clusters,
and columns that vary together count several times. Where the columns hide the clusters, methods
disagree. They often agree in the metric in which clusters are round: that of the covariance within
clusters. The clusters, and hence the metric, are found in turns.

Source: Art, Gnanadesikan & Kettenring, "Data-based metrics for cluster analysis" (1982), who also
find clusters and the metric of the covariance within them in turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from vmonf.metrics import adjusted_rand_index
from vmonf.start.comparison import candidates_for
from vmonf.start.gaussian_mixture import first_weight
from vmonf.start.gaussians import moments_of
from vmonf.start.sample import Sample, clusters_of_sample, drawn
from vmonf.start.starts import agreement_with_others

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: If the starts agree less than this in standardised columns, they are compared in this metric too.
AGREED = 0.85
#: The metric is used if the candidates agree by this at least. Rows without clusters give 0.25 to
#: 0.65 there: wrong clusters, too, are found again in a metric that is made from them.
LEAST_WITHIN = 0.6
#: The metric is found with at most this many rows.
MAX_ROWS = 3_000
#: Clusters are found at most this many times.
ROUNDS = 3
#: The search ends when clusters have this adjusted Rand index with those of the round before.
SAME = 0.98
#: The weight of the covariance of all rows in that within clusters. It bounds how much wider than
#: others a direction can become in which clusters are narrow.
SHARE_OF_ALL = 0.03
#: Added to every variance, in standardised units, for directions in which rows do not vary.
LEAST_VARIANCE = 1e-6


def within_clusters(
    sample: Sample, cluster: IntArray, n_components: int, seed: int
) -> tuple[Sample, float]:
    """The rows of a sample in the metric of the deviations within clusters.

    Beginning with the given clusters, the rows are transformed so that the covariance within
    clusters is the identity, and the candidates cluster them, all but "gaussian": it takes the most
    time, and "merged" often finds its clusters too. The clusters of the candidate that agrees most
    with others are the next.

    Parameters
    ----------
    sample : Sample
    cluster : int array of shape (n,)
        The first clusters.
    n_components : int
    seed : int

    Returns
    -------
    sample : Sample
        The transformed rows.
    agreement : float
        How well the last clusters agree with those of others, all of the same rows.
    """
    chosen = drawn(cluster, MAX_ROWS, np.random.default_rng(seed))
    x, weight, cluster = sample.x[chosen], sample.weight[chosen], cluster[chosen]
    methods = candidates_for(n_components)
    methods.pop("gaussian", None)
    for _ in range(ROUNDS):
        moved = Sample(_divided(x, _root_within(x, weight, cluster)), weight)
        found = [
            clusters_of_sample(method, moved, n_components, seed) for method in methods.values()
        ]
        table = np.array(
            [[adjusted_rand_index(one, other, weight) for other in found] for one in found]
        )
        votes = agreement_with_others(table, tuple(methods))
        before, cluster = cluster, found[int(votes.argmax())]
        if adjusted_rand_index(before, cluster, weight) > SAME:
            break
    moved = Sample(_divided(sample.x, _root_within(x, weight, cluster)), sample.weight)
    return moved, float(votes.max())


def _root_within(x: Array, weight: Array, cluster: IntArray) -> Array:
    """A triangular root of the covariance within clusters, mixed with that of all rows: (D, D)."""
    n_features = x.shape[1]
    members = first_weight(cluster, weight, int(cluster.max()) + 1)
    within, of_all = (
        moments_of(x, of_rows, diagonal=False).scatters.sum(axis=0) / weight.sum()
        for of_rows in (members, weight[None])
    )
    covariance = within + SHARE_OF_ALL * of_all
    covariance[np.diag_indices(n_features)] += LEAST_VARIANCE
    return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)


def _divided(x: Array, root: Array) -> Array:
    """The rows in units of the root of a covariance: (n, D) and (D, D) to (n, D)."""
    moved: Array = np.ascontiguousarray(solve_triangular(root, x.T, lower=True).T)
    return moved
