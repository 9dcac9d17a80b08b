"""Starts that assign each row to the nearest of K centres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.cluster import KMeans

from vmonf.rows import Rows
from vmonf.start.starts import Start

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]


def kmeans(rows: Rows[NDArray[Any]], n_components: int, seed: int) -> IntArray:
    """The cluster of each row by k-means, from the best of four runs: shape (n,)."""
    model = KMeans(n_components, n_init=4, random_state=seed)
    labels: IntArray = model.fit(rows.x, sample_weight=rows.weight).labels_.astype(np.int64)
    return labels


def random_rows(rows: Rows[NDArray[Any]], n_components: int, seed: int) -> IntArray:
    """The cluster of each row by the nearest of K random rows: shape (n,)."""
    random = np.random.default_rng(seed)
    return nearest(rows.x, rows.x[random.choice(rows.n_rows, n_components, replace=False)])


def given_centres(centres: Array) -> Start:
    """A start from given centres of shape (K, D), in standardised units."""

    def cluster(rows: Rows[NDArray[Any]], n_components: int, seed: int) -> IntArray:
        return nearest(rows.x, centres)

    return Start(cluster, centres=centres)


def nearest(x: Array, centres: Array) -> IntArray:
    """Index of the nearest centre of each row: (n, D) and (K, D) to (n,)."""
    distances: Array = np.square(centres).sum(axis=1) - 2 * x @ centres.T
    indices: IntArray = distances.argmin(axis=1).astype(np.int64)
    return indices
