"""A sample of the rows, with the graph of nearest neighbours that several starts use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, TypeVarTuple

import numpy as np
from scipy.sparse.csgraph import connected_components
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from vmonf.rows import Rows
from vmonf.start.links import Links, sparse_graph
from vmonf.start.starts import ClusterRows, named_after_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

Ts = TypeVarTuple("Ts")
T = TypeVar("T")

#: Largest number of rows of a sample.
MAX_ROWS = 20_000
#: With more features than this, distances are computed in this many principal components.
PRINCIPAL_AXES = 50
#: Number of nearest neighbours of each row in the graph.
NEIGHBOURS = 10
#: The neighbours of an unconnected part of at most this many rows are found among all rows.
#: For a larger part, the rows outside are indexed anew.
SMALL_PART = 200
#: Random parts of a sample have this share of its rows,
PART = 0.7
#: at most this many,
MOST_ROWS_OF_A_PART = 3_000
#: and at least this many, unless the sample has fewer.
FEWEST_ROWS_OF_A_PART = 10


@dataclass(frozen=True)
class Sample:
    """Rows for a start that looks at distances.

    Attributes
    ----------
    x : array of shape (n, D)
        The rows, in at most 50 principal components.
    weight : array of shape (n,)
    """

    x: Array
    weight: Array
    _results: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False, compare=False)

    def once(
        self,
        function: Callable[[Sample, *Ts], T],
        *arguments: *Ts,
    ) -> T:
        """The result of ``function(self, *arguments)``, computed at the first call and kept.

        So methods that are called with several K share what does not depend on it. Do not change
        the result.

        Parameters
        ----------
        function : callable
            A function of a module, so that the sample can be pickled.
        *arguments
            Hashable.
        """
        key = (function, *arguments)
        if key not in self._results:
            self._results[key] = function(self, *arguments)
        result: T = self._results[key]
        return result

    def keep(self, result: object, function: Callable[..., Any], *arguments: Any) -> None:
        """Keep a result that was computed elsewhere; `once` then returns it."""
        self._results[(function, *arguments)] = result

    @cached_property
    def _nearest(self) -> NearestNeighbors:
        return NearestNeighbors().fit(self.x)

    @cached_property
    def neighbours(self) -> tuple[Array, IntArray]:
        """Distances and indices of the nearest other rows, nearest first: both (n, k)."""
        distances, indices = self._nearest.kneighbors(n_neighbors=min(NEIGHBOURS, len(self.x) - 1))
        return distances, indices.astype(np.int64)

    def distances(self, number: int) -> Array:
        """Distances to the nearest other rows, nearest first: shape (n, number).

        There are fewer if there are not so many other rows.
        """
        number = min(number, len(self.x) - 1)
        distances, _ = self.neighbours
        if number > distances.shape[1]:
            distances, _ = self._nearest.kneighbors(n_neighbors=number)
        return distances[:, :number]

    @cached_property
    def links(self) -> Links:
        """Edges to the nearest neighbours, and the shortest edges that connect all rows.

        Unconnected parts are connected as in Boruvka's algorithm: in each round every part but
        the largest gets an edge to its nearest row outside.
        """
        distances, indices = self.neighbours
        n, n_neighbours = indices.shape
        first = np.repeat(np.arange(n), n_neighbours)
        second, length = indices.ravel(), distances.ravel()
        while True:
            graph = sparse_graph(first, second, np.ones(len(first)), n)
            n_parts, part = connected_components(graph, directed=False)
            if n_parts == 1:
                return Links(first, second, length)
            bridges = [
                self._bridge(part == p)
                for p in np.delete(np.arange(n_parts), np.bincount(part).argmax())
            ]
            first = np.append(first, [bridge[0] for bridge in bridges])
            second = np.append(second, [bridge[1] for bridge in bridges])
            length = np.append(length, [bridge[2] for bridge in bridges])

    def _bridge(self, inside: NDArray[np.bool_]) -> tuple[int, int, float]:
        """The shortest edge from the rows inside to the others, and its length."""
        members = np.flatnonzero(inside)
        if len(members) <= SMALL_PART:
            # One more neighbour than there are rows inside, so that some are outside.
            distances, indices = self._nearest.kneighbors(self.x[members], len(members) + 1)
            distances = np.where(inside[indices], np.inf, distances)
        else:
            others = np.flatnonzero(~inside)
            nearest = NearestNeighbors(n_neighbors=1).fit(self.x[others])
            distances, indices = nearest.kneighbors(self.x[members])
            indices = others[indices]
        i, j = np.unravel_index(distances.argmin(), distances.shape)
        return int(members[i]), int(indices[i, j]), float(distances[i, j])


#: A function of a sample, K and a seed. It returns the cluster of each row of the sample, 0 to
#: K - 1: int64, shape (n,). It is called with at least two rows and at least two clusters.
ClusterSample: TypeAlias = "Callable[[Sample, int, int], IntArray]"


def of_a_sample(cluster_sample: ClusterSample) -> ClusterRows:
    """A start that clusters at most `MAX_ROWS` rows; the others are in no cluster.

    Its clusters are named after the labels, and labelled rows are in their own cluster.
    """

    def cluster(rows: Rows[NDArray[Any]], n_components: int, seed: int) -> IntArray:
        chosen = drawn(rows.component, MAX_ROWS, np.random.default_rng(seed))
        known = rows.component[chosen]
        sample = sample_of(rows.x[chosen], rows.weight[chosen], seed)
        found = clusters_of_sample(cluster_sample, sample, n_components, seed)
        found = named_after_labels(found, known, n_components)
        cluster = np.full(rows.n_rows, -1, dtype=np.int64)
        cluster[chosen] = np.where(known >= 0, known, found)
        return cluster

    return cluster


def clusters_of_sample(
    cluster_sample: ClusterSample, sample: Sample, n_components: int, seed: int
) -> IntArray:
    """The clusters of a sample, none of which is empty if there are as many rows: shape (n,)."""
    if n_components == 1:
        return np.zeros(len(sample.x), dtype=np.int64)
    if n_components >= len(sample.x):
        return np.arange(len(sample.x), dtype=np.int64)
    return sample.once(filled_clusters, cluster_sample, n_components, seed)


def filled_clusters(
    sample: Sample, cluster_sample: ClusterSample, n_components: int, seed: int
) -> IntArray:
    """The clusters of a sample, none of which is empty: shape (n,). K is less than n."""
    return without_empty(cluster_sample(sample, n_components, seed), sample.x, n_components)


def drawn(
    component: IntArray, max_rows: int, random: np.random.Generator | np.random.RandomState
) -> IntArray:
    """Indices of all rows, or of `max_rows` random ones, with preference for labelled rows."""
    if len(component) <= max_rows:
        return np.arange(len(component))
    order = random.permutation(len(component))
    order = order[np.argsort(component[order] < 0, kind="stable")]
    return np.sort(order[:max_rows])


def sample_of(x: Array, weight: Array, random_state: int | np.random.RandomState) -> Sample:
    """The sample of all these rows: (n, D) and (n,)."""
    if min(x.shape) > PRINCIPAL_AXES:
        pca = PCA(PRINCIPAL_AXES, svd_solver="randomized", random_state=random_state)
        x = pca.fit_transform(x)
    return Sample(x, weight)


def random_parts(sample: Sample, seed: int) -> tuple[tuple[IntArray, Sample], ...]:
    """Two random parts of a sample: indices of the rows, and the rows as a sample."""
    random = np.random.default_rng(seed)
    n = len(sample.x)
    size = min(n, max(FEWEST_ROWS_OF_A_PART, min(MOST_ROWS_OF_A_PART, round(PART * n))))
    drawn = [np.sort(random.permutation(n)[:size]) for _ in range(2)]
    return tuple((index, Sample(sample.x[index], sample.weight[index])) for index in drawn)


def without_empty(cluster: IntArray, x: Array, n_components: int) -> IntArray:
    """Fill each empty cluster with half of the largest one, cut along its widest column."""
    cluster = cluster.copy()
    for c in range(n_components):
        sizes = np.bincount(cluster, minlength=n_components)
        if sizes[c] == 0:
            members = np.flatnonzero(cluster == sizes.argmax())
            widest = int(x[members].var(axis=0).argmax())
            order = np.argsort(x[members, widest], kind="stable")
            cluster[members[order[len(members) // 2 :]]] = c
    return cluster
