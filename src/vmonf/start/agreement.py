"""The start that agrees most with other starts.

No method finds every kind of cluster, and the likelihood does not tell which clusters are right.
But methods that fail do so in different ways, and those that find the clusters agree, also if they
see different rows. So several unlike methods cluster the rows and random parts of them, and the one
that agrees most with others is taken.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vmonf.metrics import adjusted_rand_index
from vmonf.rows import Rows
from vmonf.start.comparison import between_parts, candidates_for, found_in_parts
from vmonf.start.graph import spread_labels
from vmonf.start.metric import AGREED, LEAST_WITHIN, within_clusters
from vmonf.start.sample import MAX_ROWS, Sample, drawn, sample_of
from vmonf.start.starts import (
    MOST_COMPARED,
    Agreement,
    Clustering,
    Metric,
    agreement_with_others,
    named_after_labels,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

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
#: Clusters in the metric within clusters are taken if the candidates agree more on them than in
#: standardised columns, by this.
LEAST_GAIN = 0.1


def agreeing_clusters(
    rows: Rows[NDArray[Any]], n_components: int, seed: int, sample: Sample | None = None
) -> Clustering:
    """The clusters of the candidate that agrees most with others.

    The candidates cluster all rows and two random parts of them. Clusterings of different parts
    are compared by the adjusted Rand index, and that of each two candidates is averaged over
    parts. The candidate is taken with the highest mean with two candidates of other kinds; see
    `vmonf.start.starts.agreement_with_others`. If all agree little, it is the one that agrees most
    with itself.

    If the best agrees by less than 0.85, the candidates cluster the rows once more, in the metric
    of the deviations within its clusters; see `vmonf.start.metric`. These clusters are taken if
    the best agrees by at least 0.6, and more by 0.1, and they contradict no more labels.

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
    if n_components == 1:  # there is nothing to compare
        return Clustering(np.zeros(rows.n_rows, dtype=np.int64), Agreement("one cluster"))
    chosen = drawn(rows.component, MAX_ROWS, np.random.default_rng(seed))
    if sample is None or len(sample.x) != rows.n_rows:
        sample = sample_of(rows.x[chosen], rows.weight[chosen], seed)
    known = rows.component[chosen]
    found = _compared(sample, known, n_components, seed)
    if found.highest < AGREED and sample.x.shape[1] > 1:
        found = _within_clusters_of(found, sample, known, n_components, seed)
    is_labelled = len(np.unique(known[known >= 0])) == n_components
    if found.agreement.with_others < LEAST_AGREEMENT and not is_labelled:
        warnings.warn(
            "The methods of init='auto' find different clusters, with a highest mean adjusted Rand "
            f"index of {found.highest:.2f}, so that the initial clusters are a guess: try "
            "another number of components, or give labels or clusters.",
            stacklevel=2,
        )

    def of_all_rows(of_sample: IntArray) -> IntArray:
        cluster = np.full(rows.n_rows, -1, dtype=np.int64)
        cluster[chosen] = np.where(known >= 0, known, of_sample)
        return cluster

    best, *others = ((name, of_all_rows(cluster)) for name, cluster in found.clusters.items())
    return Clustering(best[1], found.agreement, tuple(others))


@dataclass(frozen=True)
class _Compared:
    """The candidates in one metric.

    Attributes
    ----------
    clusters : dict of str to int array of shape (n,)
        The clusters of the candidates that contradict few labels, those that agree most first.
    agreement : Agreement
    highest : float
        The highest agreement of these candidates with others.
    n_contradicted : int
        The number of labelled rows in wrong clusters, in the candidate with the fewest.
    """

    clusters: dict[str, IntArray]
    agreement: Agreement
    highest: float
    n_contradicted: int

    @property
    def best(self) -> IntArray:
        """The clusters of the candidate that is taken: shape (n,)."""
        return self.clusters[self.agreement.chosen]


def _within_clusters_of(
    found: _Compared, sample: Sample, known: IntArray, n_components: int, seed: int
) -> _Compared:
    """The candidates in the metric within the clusters found, if they agree more there."""
    least = max(LEAST_WITHIN, found.highest + LEAST_GAIN)
    moved, agreement = within_clusters(sample, found.best, n_components, seed)
    # Clusters of the same rows agree more, as a rule, than those of different parts.
    if agreement < least:
        return found
    again = _compared(moved, known, n_components, seed, metric="within clusters")
    is_better = again.highest >= least and again.n_contradicted <= found.n_contradicted
    return again if is_better else found


def _compared(
    sample: Sample,
    known: IntArray,
    n_components: int,
    seed: int,
    metric: Metric = "columns",
) -> _Compared:
    """Cluster a sample by all candidates, and compare their clusters in parts of it."""
    found = found_in_parts(sample, n_components, seed)
    clusters = {
        name: named_after_labels(cluster, known, n_components)
        for name, cluster in zip(candidates_for(n_components), found[0].clusters, strict=True)
    }
    labelled = known >= 0
    n_wrong = [np.sum(cluster[labelled] != known[labelled]) for cluster in clusters.values()]
    n_contradicted = int(min(n_wrong))
    eligible = np.array(n_wrong) <= n_contradicted + max(1, MAX_CONTRADICTED * labelled.sum())
    n_labels = np.bincount(known[labelled], minlength=n_components)
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
    highest = float(np.max(votes[eligible], initial=-np.inf))
    if highest < UNRELATED:
        votes = np.diag(table)
    order = np.argsort(-np.where(eligible, votes, -np.inf), kind="stable")
    return _Compared(
        {names[i]: clusters[names[i]] for i in order if eligible[i]},
        Agreement(names[order[0]], names, tuple(map(tuple, table.tolist())), metric),
        highest,
        n_contradicted,
    )
