"""Clusters along the minimum spanning tree, whose merges keep the sizes even."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from vmonf.start.links import Forest, Links
from vmonf.start.sample import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

#: Largest Gini index of the sizes at which the shortest edge is taken, whatever it connects.
#: Gagolewski, Bartoszuk & Cena (2016) recommend this value.
LARGEST_GINI = 0.3


def tree_clusters(sample: Sample, n_components: int, seed: int = 0) -> IntArray:
    """Clusters that are merged along the minimum spanning tree until K remain: shape (n,).

    This is single linkage, except that while the sizes of the clusters are uneven, with a Gini
    index above 0.3, a smallest cluster is merged next, along its shortest edge. Otherwise single
    linkage would leave most rows in one cluster, and a few outliers in the others.

    Source: Gagolewski, Bartoszuk & Cena, "Genie: A new, fast, and outlier-resistant hierarchical
    clustering algorithm" (2016), section 3. Here the tree is that of the graph of nearest
    neighbours.

    Parameters
    ----------
    sample : Sample
        At least two rows.
    n_components : int
        K, at most the number of rows.
    seed : int
        Not used, since nothing is drawn.
    """
    tree, merges = sample.once(_all_merges)
    n = len(sample.x)
    return tree.parts_without(merges[n - n_components :], n)


def _all_merges(sample: Sample) -> tuple[Links, IntArray]:
    """The minimum spanning tree, and its edges in the order of the merges: shape (n - 1,)."""
    tree = sample.links.spanning_tree(np.argsort(sample.links.length, kind="stable"))
    return tree, np.array(_merges(tree, len(sample.x)))


def _merges(tree: Links, n: int) -> list[int]:
    """The edges of the tree, in the order in which clusters are merged along them."""
    ends = list(zip(tree.first.tolist(), tree.second.tolist(), strict=True))
    # Edges of each cluster. Edges are in order of length, so that an index is also a priority.
    around: list[list[int]] = [[] for _ in range(n)]
    for edge, (i, j) in enumerate(ends):
        around[i].append(edge)
        around[j].append(edge)
    forest = Forest(n)
    size = [1] * n
    by_size = [(1, i) for i in range(n)]
    sizes = Counter({1: n})
    taken = [False] * len(ends)
    shortest = 0
    merged = []
    for n_clusters in range(n, 1, -1):
        if _gini(sizes, n_clusters, n) > LARGEST_GINI:
            while (
                size[by_size[0][1]] != by_size[0][0]
                or forest.root(by_size[0][1]) != (by_size[0][1])
            ):
                heapq.heappop(by_size)
            edges = around[by_size[0][1]]
            while taken[edges[0]]:
                heapq.heappop(edges)
            edge = edges[0]
        else:
            while taken[shortest]:
                shortest += 1
            edge = shortest
        taken[edge] = True
        merged.append(edge)
        a, b = (forest.root(i) for i in ends[edge])
        if len(around[a]) < len(around[b]):
            a, b = b, a
        for size_before in (size[a], size[b]):
            sizes[size_before] -= 1
            if not sizes[size_before]:
                del sizes[size_before]
        forest.parent[b] = a
        size[a] += size[b]
        sizes[size[a]] += 1
        heapq.heappush(by_size, (size[a], a))
        for other in around[b]:
            if not taken[other]:
                heapq.heappush(around[a], other)
        around[b] = []
    return merged


def _gini(sizes: Counter[int], n_clusters: int, n: int) -> float:
    """The Gini index of cluster sizes: 0 if all are equal, 1 if one cluster has nearly all rows.

    Parameters
    ----------
    sizes : Counter
        Number of clusters of each size.
    n_clusters, n : int
        Sum of the numbers of clusters, and of the sizes.
    """
    if n_clusters == 1:
        return 0.0
    total, before = 0, 0
    for size in sorted(sizes):
        count = sizes[size]
        # The sum of 2 * rank - n_clusters - 1 over ranks before + 1 to before + count.
        total += size * count * (2 * before + count - n_clusters)
        before += count
    return total / (n * (n_clusters - 1))
