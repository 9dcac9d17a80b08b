"""Clusters of the rows around the highest peaks of the density."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vmonf.start.links import Forest, Links
from vmonf.start.sample import NEIGHBOURS, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: A peak whose rows are fewer than this is not one: its prominence is that of chance.
FEWEST_ROWS = 5


def peak_clusters(sample: Sample, n_components: int, seed: int = 0) -> IntArray:
    """Clusters around the K most prominent peaks of the density: shape (n,).

    Each row belongs to the peak that is reached by steps to the densest neighbour. The prominence
    of a peak is the log density at the peak minus that at the saddle to a higher peak. Peaks of
    low prominence are merged with that higher peak until K remain.

    Source: Chazal, Guibas, Oudot & Skraba, "Persistence-based clustering in Riemannian manifolds"
    (2011), section 2. There the threshold of the prominence is given; here K is.

    Parameters
    ----------
    sample : Sample
        At least two rows.
    n_components : int
        K, at most the number of rows.
    seed : int
        Not used, since nothing is drawn.
    """
    tree, prominence = sample.once(prominences, NEIGHBOURS)
    cut = np.argsort(-prominence, kind="stable")[: n_components - 1]
    return tree.parts_without(cut, len(sample.x))


def prominences(sample: Sample, n_neighbours: int) -> tuple[Links, Array]:
    """A spanning tree of the rows, and the prominence of the peak that ends at each of its edges.

    Along an edge to another part of the graph, the density is that of a gap of this length. It is
    not if the density is of more neighbours than the graph has: a few rows beyond a gap are no peak
    of such a density.

    Parameters
    ----------
    sample : Sample
        At least two rows.
    n_neighbours : int
        Those of the density; see `log_density`.

    Returns
    -------
    tree : Links
        n - 1 edges, from the highest saddle to the lowest.
    prominence : array of shape (n - 1,)
        In units of the log density, divided by the number of features. It is 0 at an edge where no
        peak ends, and where one of fewer than `FEWEST_ROWS` rows does.
    """
    height = log_density(sample, n_neighbours)
    links = sample.links
    high = np.maximum(height[links.first], height[links.second])
    with_gaps = n_neighbours <= NEIGHBOURS
    saddle = _saddles(links, height, sample, with_gaps)
    tree = links.spanning_tree(np.lexsort((-high, -saddle)))
    return tree, _prominences(tree, height, _saddles(tree, height, sample, with_gaps))


def log_density(sample: Sample, n_neighbours: int) -> Array:
    """Log density of each row up to a constant, divided by the number of features: shape (n,).

    It is minus the log of the root mean square distance to the nearest neighbours, averaged over
    the row and its neighbours in the graph.

    Parameters
    ----------
    sample : Sample
    n_neighbours : int
        More make the density smoother, and less noisy.
    """
    _, indices = sample.neighbours
    squares = np.square(sample.distances(n_neighbours)).mean(axis=1)
    rough = -_safe_log(np.sqrt(squares), sample)
    smooth: Array = (rough + rough[indices].sum(axis=1)) / (1 + indices.shape[1])
    return smooth


def _saddles(links: Links, height: Array, sample: Sample, with_gaps: bool) -> Array:
    """The lowest log density along each edge: shape (E,)."""
    saddles: Array = np.minimum(height[links.first], height[links.second])
    if with_gaps:
        saddles = np.minimum(saddles, -_safe_log(links.length, sample))
    return saddles


def _safe_log(length: Array, sample: Sample) -> Array:
    """Log of distances, of which those of equal rows are raised to a small positive one."""
    distances, _ = sample.neighbours
    positive = distances[distances > 0]
    least = positive.min() if len(positive) else 1.0
    logs: Array = np.log(np.maximum(length, least))
    return logs


def _prominences(tree: Links, height: Array, saddle: Array) -> Array:
    """The prominence of the peak that ends at each edge of a spanning tree: shape (n - 1,)."""
    n = len(height)
    forest = Forest(n)
    peak = height.copy()
    size = np.ones(n, dtype=np.int64)
    prominence = np.zeros(n - 1)
    for edge, (i, j) in enumerate(zip(tree.first.tolist(), tree.second.tolist(), strict=True)):
        a, b = forest.root(i), forest.root(j)
        if peak[a] < peak[b]:
            a, b = b, a
        if size[b] >= FEWEST_ROWS:
            prominence[edge] = peak[b] - saddle[edge]
        forest.parent[b] = a
        size[a] += size[b]
    return prominence
