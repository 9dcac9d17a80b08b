"""Edges between rows, and the forest that grows as clusters are merged along them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]


def sparse_graph(first: IntArray, second: IntArray, value: Array, n: int) -> csr_array:
    """The matrix (n, n) with these values at the rows `first` and the columns `second`.

    Its indices have 32 bits, which the graph functions of scipy 1.12 require.
    """
    ends = first.astype(np.int32), second.astype(np.int32)
    return csr_array(coo_array((value, ends), shape=(n, n)))


class Links(NamedTuple):
    """Edges between rows.

    Attributes
    ----------
    first, second : int array of shape (E,)
        The two rows of each edge.
    length : array of shape (E,)
        The distance between them.
    """

    first: IntArray
    second: IntArray
    length: Array

    def spanning_tree(self, order: IntArray) -> Links:
        """The spanning tree of the edges that come first: n - 1 edges, in this order.

        Parameters
        ----------
        order : int array of shape (E,)
            Indices of the edges, from the first to the last.
        """
        # Ranks take the place of lengths, since scipy takes an edge of length zero for none.
        rank = np.empty(len(order))
        rank[order] = np.arange(1, len(order) + 1)
        n = int(max(self.first.max(), self.second.max())) + 1
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        # Of two edges between the same rows the earlier is kept: scipy would add their ranks.
        _, unique = np.unique((low * n + high)[order], return_index=True)
        kept = order[unique]
        graph = sparse_graph(low[kept], high[kept], rank[kept], n)
        chosen = np.sort(minimum_spanning_tree(graph).data.astype(np.int64)) - 1
        return Links(*(values[order[chosen]] for values in self))

    def parts_without(self, cut: IntArray, n: int) -> IntArray:
        """The connected parts of n rows without the edges of these indices: shape (n,)."""
        kept = np.delete(np.arange(len(self.first)), cut)
        graph = sparse_graph(self.first[kept], self.second[kept], np.ones(len(kept)), n)
        _, part = connected_components(graph, directed=False)
        return np.asarray(part, dtype=np.int64)


class Forest:
    """Disjoint sets of rows, each named by one of them, its root.

    Parameters
    ----------
    n : int
        Number of rows. At first each is a set of its own.
    """

    def __init__(self, n: int) -> None:
        self.parent = list(range(n))

    def root(self, row: int) -> int:
        """The root of the set of a row."""
        parent = self.parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]  # halves the path, so that later calls are fast
            row = parent[row]
        return row
