"""The start that agrees most with other starts.

No method finds every kind of cluster, and the likelihood does not tell which clusters are right.
But methods that fail do so in different ways, and those that find the clusters agree, also if they
see different rows. So several unlike methods cluster the rows and random parts of them, and the one
that agrees most with others is taken.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from vmonf.metrics import adjusted_rand_index
from vmonf.rows import Rows
from vmonf.start.graph import cut_graph, spread_labels
from vmonf.start.merged import gaussian_clusters, merged_clusters
from vmonf.start.peaks import peak_clusters
from vmonf.start.sample import (
    MAX_ROWS,
    ClusterSample,
    Sample,
    clusters_of_sample,
    drawn,
    random_parts,
    sample_of,
)
from vmonf.start.starts import (
    MOST_COMPARED,
    Agreement,
    Clustering,
    agreement_with_others,
    named_after_labels,
)
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
#: Name of a further candidate, if all components have labels: the labels, spread along the graph.
SPREAD = "labels"
#: A candidate is left out if more labelled rows than in the best candidate are in a wrong cluster:
#: more by this share of the labelled rows, and by more than one row.
MAX_CONTRADICTED = 0.05
#: Labels are spread only with this many for each component: from fewer, they often reach the wrong
#: rows where clusters overlap.
FEWEST_LABELS_TO_SPREAD = 10
#: Below this mean agreement, methods of different kinds find unrelated clusters. Then the candidate
#: is taken that finds the most similar clusters in different parts of the rows. A small cluster
#: beside a large one, for example, may be found by Gaussian mixtures alone.
UNRELATED = 0.25
#: Below this mean agreement there is a warning. Rows of a single Gaussian give 0.1 to 0.4, and only
#: a few tables that have clusters give less than 0.3.
LEAST_AGREEMENT = 0.3


def agreeing_clusters(
    rows: Rows[NDArray[Any]], n_components: int, seed: int, sample: Sample | None = None
) -> Clustering:
    """The clusters of the candidate that agrees most with others.

    The candidates cluster all rows and two random parts of them. Clusterings of different parts
    are compared by the adjusted Rand index, and that of each two candidates is averaged over
    parts. The candidate is taken with the highest mean with two candidates of other kinds; see
    `vmonf.start.starts.agreement_with_others`. If all agree little, it is the one that agrees most
    with itself.

    With labels, clusters are named after them, labelled rows are in their own cluster, and
    candidates that contradict the labels are left out. Of more than 20,000 rows, a sample is
    clustered, and the others are in no cluster. With many labels of every component, labels that
    spread along the graph of neighbours are one more candidate.

    Parameters
    ----------
    rows : Rows
        Arrays, in standardised units.
    n_components : int
    seed : int
    sample : Sample, optional
        The sample of exactly these rows, which may have been clustered before, with this seed.

    Warns
    -----
    UserWarning
        If this highest mean index is low, and not every component has labels.

    Notes
    -----
    The comparison of clusters of different parts of the rows is that of Ben-Hur, Elisseeff & Guyon,
    "A stability based method for discovering structure in clustered data" (2002), section 3, who
    compare a method with itself.

    Source of the index, here with pairs of rows weighted by the product of their weights: Hubert &
    Arabie, "Comparing partitions" (1985), section 4.
    """
    chosen = drawn(rows.component, MAX_ROWS, np.random.default_rng(seed))
    if sample is None or len(sample.x) != rows.n_rows:
        sample = sample_of(rows.x[chosen], rows.weight[chosen], seed)
    known = rows.component[chosen]
    n_labels = np.bincount(known[known >= 0], minlength=n_components)
    found = found_in_parts(sample, n_components, seed)
    clusters = {
        name: named_after_labels(cluster, known, n_components)
        for name, cluster in zip(candidates_for(n_components), found[0].clusters, strict=True)
    }
    eligible = _agreeing_with_labels(list(clusters.values()), known)
    if n_labels.min() >= FEWEST_LABELS_TO_SPREAD and n_components > 1:
        clusters[SPREAD] = spread_labels(sample, known, n_components)
        eligible = np.append(eligible, True)
        for part in found:
            part.clusters.append(clusters[SPREAD][part.index])
    table = between_parts(found, adjusted_rand_index, sample.weight)
    names = tuple(clusters)
    # Candidates that contradict the labels are compared with only if too few others are left.
    compared = eligible if eligible.sum() > MOST_COMPARED else np.ones_like(eligible)
    votes = np.full(len(names), -np.inf)
    votes[compared] = agreement_with_others(
        table[np.ix_(compared, compared)], [names[i] for i in np.flatnonzero(compared)]
    )
    highest = np.max(votes[eligible], initial=-np.inf)
    if highest < UNRELATED:
        votes = np.diag(table)
    order = np.argsort(-np.where(eligible, votes, -np.inf), kind="stable")
    best = names[order[0]]
    agreement = Agreement(best, names, tuple(map(tuple, table.tolist())))
    if agreement.with_others < LEAST_AGREEMENT and not n_labels.all():
        warnings.warn(
            "The methods of init='auto' find different clusters, with a highest mean adjusted Rand "
            f"index of {highest:.2f}, so that the initial clusters are a guess: try "
            "another number of components, or give labels or clusters.",
            stacklevel=2,
        )

    def of_all_rows(name: str) -> IntArray:
        cluster = np.full(rows.n_rows, -1, dtype=np.int64)
        cluster[chosen] = np.where(known >= 0, known, clusters[name])
        return cluster

    others = tuple((names[i], of_all_rows(names[i])) for i in order[1:] if eligible[i])
    return Clustering(of_all_rows(best), agreement, others)


def _agreeing_with_labels(clusters: list[IntArray], known: IntArray) -> NDArray[np.bool_]:
    """Mask of the candidates that contradict few labels: shape (number of candidates,)."""
    labelled = known >= 0
    wrong = np.array([np.sum(cluster[labelled] != known[labelled]) for cluster in clusters])
    mask: NDArray[np.bool_] = wrong <= wrong.min() + max(1, MAX_CONTRADICTED * labelled.sum())
    return mask


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
