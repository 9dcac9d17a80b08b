"""Starts: initial clusters of the rows, and the Gaussian mixture that is fitted from them.

To add a start, write a function ``(rows, n_components, seed)`` that returns the cluster of each
row, and add it to `STARTS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vmonf.rows import Rows
from vmonf.start.agreement import agreeing_clusters
from vmonf.start.centres import given_centres, kmeans, random_rows
from vmonf.start.gaps import conditionals_of, first_filled, refitted
from vmonf.start.gaussian_mixture import GaussianStart, Shrinkage
from vmonf.start.graph import graph_clusters
from vmonf.start.merged import gaussian_clusters, merged_clusters
from vmonf.start.number import Number, number_of_clusters
from vmonf.start.peaks import peak_clusters
from vmonf.start.sample import Sample, of_a_sample
from vmonf.start.starter import GaussianStarter
from vmonf.start.starts import (
    Agreement,
    Clustering,
    Start,
    largest_to_largest,
    named_after_labels,
)
from vmonf.start.tree import tree_clusters

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "STARTS",
    "Agreement",
    "Clustering",
    "GaussianStart",
    "GaussianStarter",
    "Number",
    "Sample",
    "Shrinkage",
    "Start",
    "agreeing_clusters",
    "conditionals_of",
    "first_filled",
    "given_centres",
    "graph_clusters",
    "largest_to_largest",
    "named_after_labels",
    "number_of_clusters",
    "refitted",
]


def _along_the_graph(rows: Rows[NDArray[Any]], n_components: int, seed: int) -> NDArray[np.int64]:
    return graph_clusters(rows.x, n_components, rows.component, rows.weight, seed)


def _no_clusters(rows: Rows[NDArray[Any]], n_components: int, seed: int) -> NDArray[np.int64]:
    return np.full(rows.n_rows, -1)


#: The names that the parameter `init` of `FlowMixture` accepts.
STARTS: dict[str, Start] = {
    "kmeans": Start(kmeans),
    # Gaussians cannot represent the clusters of the next four, so the flows learn them by
    # pretraining.
    "graph": Start(_along_the_graph, once=True, pretrain_epochs=20),
    "peaks": Start(of_a_sample(peak_clusters), once=True, pretrain_epochs=20),
    "tree": Start(of_a_sample(tree_clusters), once=True, pretrain_epochs=20),
    "merged": Start(of_a_sample(merged_clusters), once=True, pretrain_epochs=20),
    "gaussian": Start(of_a_sample(gaussian_clusters), once=True),
    # The number of epochs is settled before a start is chosen. Four of five candidates need the
    # pretraining, and where Gaussians fit the clusters it only takes time.
    "auto": Start(agreeing_clusters, once=True, pretrain_epochs=20),
    "random": Start(random_rows),
    "none": Start(_no_clusters, informed=False),
}
