"""The start that agrees most with other starts.

No method finds every kind of cluster, and the likelihood does not tell which clusters are right.
But methods that fail do so in different ways, and those that find the clusters agree. So several
unlike methods cluster the rows, and the one that agrees most with the others is taken.
"""

from __future__ import annotations

import warnings
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
    sample_of,
)
from vmonf.start.starts import Agreement, Clustering, named_after_labels
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
#: Name of a further candidate, if all components have labels: the labels, spread along the graph.
SPREAD = "labels"
#: The agreement is computed on at most this many rows.
MAX_COMPARED_ROWS = 5_000
#: A candidate is left out if more labelled rows than in the best candidate are in a wrong cluster:
#: more by this share of the labelled rows, and by more than one row.
MAX_CONTRADICTED = 0.05
#: Labels are spread only with this many for each component: from fewer, they often reach the wrong
#: rows where clusters overlap.
FEWEST_LABELS_TO_SPREAD = 10
#: Below this mean agreement there is a warning. Rows of a single Gaussian give 0.1 to 0.4, and only
#: a few tables that have clusters give less than 0.3.
LEAST_AGREEMENT = 0.3


def agreeing_clusters(
    rows: Rows[NDArray[Any]], n_components: int, seed: int, sample: Sample | None = None
) -> Clustering:
    """The clusters of the candidate with the highest mean adjusted Rand index with the others.

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
    Source of the index, here with pairs of rows weighted by the product of their weights: Hubert &
    Arabie, "Comparing partitions" (1985), section 4.
    """
    random = np.random.default_rng(seed)
    chosen = drawn(rows.component, MAX_ROWS, random)
    if sample is None or len(sample.x) != rows.n_rows:
        sample = sample_of(rows.x[chosen], rows.weight[chosen], seed)
    known = rows.component[chosen]
    n_labels = np.bincount(known[known >= 0], minlength=n_components)
    clusters = {
        name: named_after_labels(
            clusters_of_sample(method, sample, n_components, seed), known, n_components
        )
        for name, method in CANDIDATES.items()
    }
    eligible = _agreeing_with_labels(list(clusters.values()), known)
    if n_labels.min() >= FEWEST_LABELS_TO_SPREAD and n_components > 1:
        clusters[SPREAD] = spread_labels(sample, known, n_components)
        eligible = np.append(eligible, True)
    table = agreements(list(clusters.values()), sample, random)
    # Candidates that contradict the labels have a vote only if too few others have one.
    voters = eligible if eligible.sum() > 2 else np.ones_like(eligible)
    votes = (table * voters).sum(axis=1) - np.diag(table) * voters
    names = tuple(clusters)
    best = names[int(np.where(eligible, votes, -np.inf).argmax())]
    agreement = Agreement(best, names, tuple(map(tuple, table.tolist())))
    if agreement.with_others < LEAST_AGREEMENT and not n_labels.all():
        warnings.warn(
            "The methods of init='auto' find different clusters, with a highest mean adjusted Rand "
            f"index of {agreement.with_others:.2f}, so that the initial clusters are a guess: try "
            "another number of components, or give labels or clusters.",
            stacklevel=2,
        )
    cluster = np.full(rows.n_rows, -1, dtype=np.int64)
    cluster[chosen] = np.where(known >= 0, known, clusters[best])
    return Clustering(cluster, agreement)


def _agreeing_with_labels(clusters: list[IntArray], known: IntArray) -> NDArray[np.bool_]:
    """Mask of the candidates that contradict few labels: shape (number of candidates,)."""
    labelled = known >= 0
    wrong = np.array([np.sum(cluster[labelled] != known[labelled]) for cluster in clusters])
    mask: NDArray[np.bool_] = wrong <= wrong.min() + max(1, MAX_CONTRADICTED * labelled.sum())
    return mask


def agreements(clusters: list[IntArray], sample: Sample, random: np.random.Generator) -> Array:
    """The adjusted Rand index of each two candidates C: shape (C, C)."""
    chosen = random.permutation(len(sample.x))[:MAX_COMPARED_ROWS]
    weight = sample.weight[chosen]
    table = np.eye(len(clusters))
    for i, first in enumerate(clusters):
        for j in range(i):
            index = adjusted_rand_index(first[chosen], clusters[j][chosen], weight)
            table[i, j] = table[j, i] = index
    return table
