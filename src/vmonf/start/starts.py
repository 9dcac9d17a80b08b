"""The definition of a start, which gives each row an initial cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from vmonf.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: A function of rows in standardised units, K and a seed. It returns the cluster of each row, 0 to
#: K - 1, or -1 if the start gives none: shape (n,).
ClusterRows: TypeAlias = "Callable[[Rows[NDArray[Any]], int, int], IntArray]"


@dataclass(frozen=True)
class Start:
    """A method that gives rows their initial clusters.

    Attributes
    ----------
    cluster : callable
        ``cluster(rows, n_components, seed)`` returns the cluster of each row; see `ClusterRows`.
        Unless `once` is set, it is called only if no row has a label or a given cluster.
    once : bool
        Whether `cluster` is called once for all rows of a fit, including held-out rows, because
        it is expensive. Otherwise it is called for the training rows of each restart, and in each
        fold of the cross-validation.
    pretrain_epochs : int
        Number of epochs of pretraining on the clusters if ``pretrain_epochs="auto"``.
    informed : bool
        False for the paper's start, which has no clusters. Every component is then the Gaussian
        of all rows, and the networks of the flows are drawn at random.
    centres : array of shape (K, D) or None
        Centres that the user gave, in standardised units.
    """

    cluster: ClusterRows
    once: bool = False
    pretrain_epochs: int = 0
    informed: bool = True
    centres: Array | None = None


def largest_to_largest(cluster: IntArray, weight: Array, component_weights: Array) -> IntArray:
    """Number clusters (n,) so that larger clusters have larger component weights; -1 stays."""
    inside = cluster >= 0
    n_components = len(component_weights)
    sizes = np.bincount(cluster[inside], weights=weight[inside], minlength=n_components)
    component = np.empty(n_components, dtype=np.int64)
    component[np.argsort(-sizes, kind="stable")] = np.argsort(-component_weights, kind="stable")
    return np.where(inside, component[cluster], -1)
