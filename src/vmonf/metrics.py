"""Scores of the agreement of clusters with labels, independent of the names of the clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import xlogy
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.utils import check_consistent_length, column_or_1d

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]


class Contingency(NamedTuple):
    """The number of rows with each label and each cluster.

    Attributes
    ----------
    labels : array of shape (L,)
        The labels found, sorted.
    clusters : array of shape (C,)
        The clusters found, sorted.
    counts : int array of shape (L, C)
    """

    labels: NDArray[Any]
    clusters: NDArray[Any]
    counts: NDArray[np.int64]


def contingency_table(labels: ArrayLike, clusters: ArrayLike) -> Contingency:
    """Count the rows of each label and cluster.

    Parameters
    ----------
    labels, clusters : array-like of shape (n,)
        Whole numbers or strings: the label and the cluster of each row.

    Returns
    -------
    Contingency

    Raises
    ------
    ValueError
        If labels and clusters differ in length, or are empty.

    Examples
    --------
    >>> contingency_table(["a", "a", "b"], [1, 0, 0]).counts
    array([[1, 1],
           [1, 0]])
    """
    check_consistent_length(labels, clusters)
    label_names, label_codes = np.unique(column_or_1d(labels), return_inverse=True)
    cluster_names, cluster_codes = np.unique(column_or_1d(clusters), return_inverse=True)
    if not len(label_codes):
        raise ValueError("There are no rows to compare: give at least one label and its cluster.")
    counts = np.zeros((len(label_names), len(cluster_names)), dtype=np.int64)
    np.add.at(counts, (label_codes, cluster_codes), 1)
    return Contingency(label_names, cluster_names, counts)


def match(counts: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair rows with columns, one to one, so that the sum of the paired counts is largest.

    Parameters
    ----------
    counts : array-like of shape (L, C)
        The weight of each pair, such as the number of rows with a label and a cluster.

    Returns
    -------
    rows, columns : int arrays of shape (min(L, C),)
        The pairs, in the order of the rows.

    Examples
    --------
    >>> match([[1, 5], [0, 7], [3, 4]])
    (array([1, 2]), array([1, 0]))
    """
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return rows, columns


def best_map(labels: ArrayLike, clusters: ArrayLike) -> dict[Any, Any]:
    """Map clusters to labels, one to one, so that as many rows as possible agree.

    Parameters
    ----------
    labels, clusters : array-like of shape (n,)

    Returns
    -------
    dict
        From clusters to labels. If the numbers of clusters and labels differ, some are left out.
        Pairs without rows are left out too.

    Examples
    --------
    >>> best_map(["a", "a", "b"], [1, 1, 0])
    {0: 'b', 1: 'a'}
    """
    table = contingency_table(labels, clusters)
    labels_named, clusters_named = table.labels.tolist(), table.clusters.tolist()
    rows, columns = match(table.counts)
    return {
        clusters_named[column]: labels_named[row]
        for column, row in sorted(zip(columns, rows, strict=True))
        if table.counts[row, column]
    }


def clustering_accuracy(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Share of rows whose cluster `best_map` maps to their label.

    Parameters
    ----------
    labels, clusters : array-like of shape (n,)

    Returns
    -------
    float
        Greater than 0, and at most 1.

    Examples
    --------
    >>> clustering_accuracy([0, 0, 1, 1], [1, 1, 0, 1])
    0.75
    """
    counts = contingency_table(labels, clusters).counts
    return float(counts[match(counts)].sum() / counts.sum())


def clustering_scores(labels: ArrayLike, clusters: ArrayLike) -> dict[str, float]:
    """Accuracy under the best one-to-one map, and two scores that do not use a map.

    Parameters
    ----------
    labels, clusters : array-like of shape (n,)

    Returns
    -------
    dict
        "accuracy" is the `clustering_accuracy`, "nmi" the normalized mutual information
        (arithmetic mean), and "ari" the adjusted Rand index, whose expectation for random
        clusters is 0.
    """
    return {
        "accuracy": clustering_accuracy(labels, clusters),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
    }


def adjusted_rand_index(first: IntArray, second: IntArray, weight: Array) -> float:
    """The adjusted Rand index of two clusterings, with weights for the rows.

    It is the share of pairs of rows on which the clusterings agree, scaled so that 1 is equality
    and 0 is expected by chance. A pair counts by the product of the weights of its rows.

    Parameters
    ----------
    first, second : int array of shape (n,)
        Clusters of the rows, 0 or more.
    weight : array of shape (n,)
    """
    sums = _sums(first, second, weight)
    squares = _sums(first, second, np.square(weight))
    in_both = float(np.sum(np.square(sums) - squares))
    in_first = float(np.sum(np.square(sums.sum(axis=1)) - squares.sum(axis=1)))
    in_second = float(np.sum(np.square(sums.sum(axis=0)) - squares.sum(axis=0)))
    pairs = float(np.square(sums.sum()) - squares.sum())
    expected = in_first * in_second / max(pairs, 1e-300)
    most = (in_first + in_second) / 2
    return (in_both - expected) / (most - expected) if most - expected > 1e-9 * pairs else 1.0


def information(first: IntArray, second: IntArray, weight: Array) -> tuple[float, float]:
    """What two clusterings of the same rows share, and what they do not share, in nats.

    Parameters
    ----------
    first, second : int array of shape (n,)
        Clusters of the rows, 0 or more.
    weight : array of shape (n,)
        Weights of the rows.

    Returns
    -------
    mutual_information : float
        What each tells of the other: log K for two equal clusterings with K clusters of one size.
    variation_of_information : float
        What each does not tell of the other, in sum: zero if they are equal.

    Notes
    -----
    Source: Meila, "Comparing clusterings: an information based distance" (2007), section 3.
    """
    joint = _sums(first, second, weight)
    share = joint / joint.sum()
    parts = (share.sum(axis=1), share.sum(axis=0), share)
    of_first, of_second, of_both = (-float(xlogy(each, each).sum()) for each in parts)
    return of_first + of_second - of_both, 2 * of_both - of_first - of_second


def _sums(first: IntArray, second: IntArray, weight: Array) -> Array:
    """Sums of weights for each pair of clusters: shape (A, B). Clusters are 0 to A - 1 or B - 1."""
    shape = (int(first.max()) + 1, int(second.max()) + 1)
    key = first * shape[1] + second
    sums: NDArray[Any] = np.bincount(key, weight, shape[0] * shape[1])
    return sums.reshape(shape)
