"""What a start is: a cluster for each row, from which the components begin."""

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

#: From rows in standardised units, K and a seed to the cluster of each row: 0 to K - 1, or -1
#: where the start leaves it open. Shape (n,).
ClusterRows: TypeAlias = "Callable[[Rows[NDArray[Any]], int, int], IntArray]"


@dataclass(frozen=True)
class Start:
    """A way to put rows in clusters before anything is trained.

    Attributes
    ----------
    cluster : callable
        ``cluster(rows, n_components, seed)`` gives the cluster of each row; see `ClusterRows`.
        It is asked only where neither labels nor given clusters say where every component is,
        unless it is asked once.
    once : bool
        Whether it is asked once for all rows of a fit, the held-out rows too, because it costs
        more than all that follows. Otherwise it is asked for the training rows of each restart,
        and in each fold of the cross-validation.
    pretrain_epochs : int
        How many epochs of pretraining on its clusters ``pretrain_epochs="auto"`` means.
    informed : bool
        False for the paper's start: there are no clusters, every component is the Gaussian of
        all rows, and the networks of the flows are drawn at random.
    centres : array of shape (K, D) or None
        Centres that the user gave, in standardised units.
    """

    cluster: ClusterRows
    once: bool = False
    pretrain_epochs: int = 0
    informed: bool = True
    centres: Array | None = None


def largest_to_largest(cluster: IntArray, weight: Array, component_weights: Array) -> IntArray:
    """Number clusters so that the largest is the component of the largest weight; -1 stays."""
    inside = cluster >= 0
    n_components = len(component_weights)
    sizes = np.bincount(cluster[inside], weights=weight[inside], minlength=n_components)
    component = np.empty(n_components, dtype=np.int64)
    component[np.argsort(-sizes, kind="stable")] = np.argsort(-component_weights, kind="stable")
    return np.where(inside, component[cluster], -1)
