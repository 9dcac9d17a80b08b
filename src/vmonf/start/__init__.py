"""Starts: a cluster for each row, and the Gaussian mixture that begins from these clusters.

A new start is one function, ``(rows, n_components, seed)`` to a cluster for each row, and one
line in `STARTS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vmonf.rows import Rows
from vmonf.start.centres import given_centres, kmeans, random_rows
from vmonf.start.gaussian_mixture import GaussianStart, GaussianStarter, Shrinkage
from vmonf.start.graph import graph_clusters
from vmonf.start.starts import Start, largest_to_largest

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
]


def _along_the_graph(rows: Rows[NDArray[Any]], n_components: int, seed: int) -> NDArray[np.int64]:
    return graph_clusters(rows.x, n_components, rows.component, rows.weight, seed)


def _no_clusters(rows: Rows[NDArray[Any]], n_components: int, seed: int) -> NDArray[np.int64]:
    return np.full(rows.n_rows, -1)


#: What `init` of `FlowMixture` may name.
STARTS: dict[str, Start] = {
    "kmeans": Start(kmeans),
    # No Gaussian has the shape of the graph's clusters, so that flows learn them first.
    "graph": Start(_along_the_graph, once=True, pretrain_epochs=20),
    "random": Start(random_rows),
    "none": Start(_no_clusters, informed=False),
}
