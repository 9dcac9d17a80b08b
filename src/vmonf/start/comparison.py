"""Clusterings of several methods, of all rows and of random parts, and how well they agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from vmonf.start.graph import cut_graph
from vmonf.start.merged import gaussian_clusters, merged_clusters
from vmonf.start.peaks import peak_clusters
from vmonf.start.sample import ClusterSample, Sample, clusters_of_sample, random_parts
from vmonf.start.tree import tree_clusters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: The clusterings that are compared. k-means is not among them: with it, three of them would prefer
#: round clusters, and on shapes these three would agree on what is wrong.
CANDIDATES: dict[str, ClusterSample] = {
    "gaussian": gaussian_clusters,
    "merged": merged_clusters,
    "graph": cut_graph,
    "peaks": peak_clusters,
    "tree": tree_clusters,
}
#: With more components, "graph" is left out: its time rises with their square, by the eigenvectors.
MOST_CUT = 128


@dataclass(frozen=True)
class Found:
    """The clusters of some rows of a sample.

    Attributes
    ----------
    index : int array of shape (m,)
        The rows of the sample.
    clusters : list of int arrays of shape (m,)
        Of each candidate.
    """

    index: IntArray
    clusters: list[IntArray]


def found_in_parts(sample: Sample, n_components: int, seed: int) -> list[Found]:
    """The clusters that the candidates find in all rows of a sample, and in two parts of them."""
    return [
        Found(index, clusters_of_candidates(part, n_components, seed))
        for index, part in whole_and_parts(sample, seed)
    ]


def candidates_for(n_components: int) -> dict[str, ClusterSample]:
    """The clusterings that are compared with this number of components, by name."""
    return {
        name: method
        for name, method in CANDIDATES.items()
        if name != "graph" or n_components <= MOST_CUT
    }


def clusters_of_candidates(sample: Sample, n_components: int, seed: int) -> list[IntArray]:
    """The clusters of each candidate: shape (n,)."""
    return [
        clusters_of_sample(method, sample, n_components, seed)
        for method in candidates_for(n_components).values()
    ]


def whole_and_parts(sample: Sample, seed: int) -> list[tuple[IntArray, Sample]]:
    """The whole sample and two random parts, each with the indices of its rows."""
    return [(np.arange(len(sample.x)), sample), *sample.once(random_parts, seed)]


def between_parts(
    found: list[Found], measure: Callable[[IntArray, IntArray, Array], float], weight: Array
) -> Array:
    """Mean of a measure between clusters that two candidates find in different rows.

    Clusters that two methods find in different rows agree only if they do not depend on the rows.
    Two methods that are alike do not agree more than others, unless their clusters are stable.

    Parameters
    ----------
    found : list of Found
        The clusters of C candidates in different parts of a sample.
    measure : callable
        ``measure(first, second, weight)`` compares two clusterings of the same rows.
    weight : array of shape (n,)
        Of the rows of the sample.

    Returns
    -------
    array of shape (C, C)
    """
    n_candidates = len(found[0].clusters)
    total = np.zeros((n_candidates, n_candidates))
    for one, other in combinations(found, 2):
        index, in_one, in_other = np.intersect1d(
            one.index, other.index, assume_unique=True, return_indices=True
        )
        for i, first in enumerate(one.clusters):
            for j, second in enumerate(other.clusters):
                total[i, j] += measure(first[in_one], second[in_other], weight[index])
    n_pairs = len(found) * (len(found) - 1) / 2
    return (total + total.T) / (2 * n_pairs)
