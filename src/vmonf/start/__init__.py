"""Starts: initial clusters of the rows, and the Gaussian mixture that is fitted from them.

To add a start, write a function ``(rows, n_components, seed)`` that returns the cluster of each
row, and add it to `STARTS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vmonf.rows import Rows
from vmonf.start.centres import given_centres, kmeans, random_rows
from vmonf.start.gaussian_mixture import GaussianStart, GaussianStarter, Shrinkage
from vmonf.start.graph import graph_clusters
from vmonf.start.starts import Start, largest_to_largest, named_after_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "STARTS",
    "GaussianStart",
    "GaussianStarter",
    "Shrinkage",
    "Start",
    "given_centres",
    "graph_clusters",
    "largest_to_largest",
    "named_after_labels",
]


def _along_the_graph(rows: Rows[NDArray[Any]], n_components: int, seed: int) -> NDArray[np.int64]:
    return graph_clusters(rows.x, n_components, rows.component, rows.weight, seed)


def _no_clusters(rows: Rows[NDArray[Any]], n_components: int, seed: int) -> NDArray[np.int64]:
    return np.full(rows.n_rows, -1)


#: The names that the parameter `init` of `FlowMixture` accepts.
STARTS: dict[str, Start] = {
    "kmeans": Start(kmeans),
    # Gaussians cannot represent clusters of the graph, so the flows learn them by pretraining.
    "graph": Start(_along_the_graph, once=True, pretrain_epochs=20),
    "random": Start(random_rows),
    "none": Start(_no_clusters, informed=False),
}
