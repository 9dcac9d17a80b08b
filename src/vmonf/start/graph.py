"""Clusters of any shape, from the graph of nearest neighbours.

A cluster is a set of rows that chains of near neighbours connect. It may be a ring, a wing or a
digit, which k-means and a Gaussian mixture would divide. With labels of every cluster, the labels
spread along the edges of the graph. Otherwise the graph is cut where it has few edges (spectral
clustering).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import cg, eigsh
from sklearn.cluster import KMeans
from sklearn.utils import check_random_state

from vmonf.start.links import sparse_graph
from vmonf.start.sample import Sample, drawn, sample_of
from vmonf.start.starts import named_after_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Largest number of rows in the graph. From larger tables, rows are drawn at random.
MAX_ROWS = 50_000
#: Cuts are computed from K to K plus this many eigenvectors. With only K, a small group of
#: outliers can take the place of a cluster.
MORE_EIGENVECTORS = 3
#: Eigenvectors are computed for at least this many clusters, so that cuts into fewer share them.
CLUSTERS_AT_LEAST = 12
#: Number of restarts of k-means for each number of eigenvectors.
RESTARTS = 4
#: Weight alpha of the neighbours relative to a row's own label; Zhou et al. (2004), section 3.
SPREAD = 0.99


def graph_clusters(
    X: Array,
    n_components: int,
    component: IntArray | None = None,
    weight: Array | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> IntArray:
    """Clusters of rows along the graph of nearest neighbours.

    Parameters
    ----------
    X : array of shape (n, D)
        Finite rows. Distances are in the units of X, so scale features of different units first.
        With more than 50 features, distances are computed in the first 50 principal components.
    n_components : int
        K, the number of clusters.
    component : int array of shape (n,), optional
        The known cluster of each row, 0 to K - 1, or -1 if it is not known. If rows of every
        cluster are known, these labels spread along the graph. Otherwise they only number the
        clusters that the graph gives.
    weight : array of shape (n,), optional
        Weight of each row in the k-means step of the spectral clustering.
    random_state : int, RandomState or None, default=None

    Returns
    -------
    array of shape (n,)
        The cluster of each row, 0 to K - 1. It is -1 for rows that no label reaches and, with
        more than 50,000 rows, for rows that were not drawn.

    Notes
    -----
    Source of the spectral clustering: Ng, Jordan & Weiss, "On spectral clustering" (2002).
    Clusters are computed from K, K + 1, ... eigenvectors, and those of the smallest normalised
    cut are kept (Shi & Malik, "Normalized cuts and image segmentation", 2000). Source of the
    spreading: Zhou et al., "Learning with local and global consistency" (2004).
    """
    random = check_random_state(random_state)
    known = np.full(len(X), -1) if component is None else np.asarray(component)
    weights = np.ones(len(X)) if weight is None else np.asarray(weight)
    chosen = drawn(known, MAX_ROWS, random)
    cluster = np.full(len(X), -1, dtype=np.int64)
    if n_components == 1:
        return np.zeros_like(cluster)
    sample = sample_of(np.asarray(X)[chosen], weights[chosen], random)
    known = known[chosen]
    if len(np.unique(known[known >= 0])) == n_components:
        found = spread_labels(sample, known, n_components)
    else:
        found = named_after_labels(cut_graph(sample, n_components, random), known, n_components)
    cluster[chosen] = np.where(known >= 0, known, found)
    return cluster


def _neighbour_graph(sample: Sample) -> csr_array:
    """Symmetric adjacency (n, n): 1 between mutual neighbours, 1/2 between one-way neighbours."""
    _, indices = sample.neighbours
    n, n_neighbours = indices.shape
    first = np.repeat(np.arange(n), n_neighbours)
    one_way = sparse_graph(first, indices.ravel(), np.ones(indices.size), n)
    return csr_array((one_way + one_way.T) / 2)


def _smoothing(graph: csr_array) -> csr_array:
    """The normalised adjacency D^-1/2 A D^-1/2, whose eigenvalues are at most 1."""
    root = diags_array(1 / np.sqrt(graph.sum(axis=1)))
    return csr_array(root @ graph @ root)


def spread_labels(sample: Sample, known: IntArray, n_components: int) -> IntArray:
    """The label with the largest spread value at each row, or -1 if no label reaches it.

    Parameters
    ----------
    sample : Sample
    known : int array of shape (n,)
        The known cluster of each row, or -1. Every cluster is that of some row.
    n_components : int
    """
    graph = sample.once(_neighbour_graph)
    n = len(known)
    system = diags_array(np.ones(n)) - SPREAD * _smoothing(graph)
    reach = np.zeros((n, n_components))
    for c in range(n_components):
        source = (known == c) / np.sum(known == c)  # equal total weight for each class
        reach[:, c], _ = cg(system, source, rtol=1e-8, atol=0.0, maxiter=2000)
    # The solver gives zeros for rows that no label reaches.
    found: IntArray = np.where(reach.max(axis=1) > 0, reach.argmax(axis=1), -1)
    return found


def cut_graph(
    sample: Sample, n_components: int, random_state: int | np.random.RandomState
) -> IntArray:
    """The spectral clusters with the smallest normalised cut: shape (n,)."""
    graph = sample.once(_neighbour_graph)
    random = check_random_state(random_state)
    vectors = eigenvectors_for(sample, n_components)
    seed = int(random.randint(np.iinfo(np.int32).max))
    best, smallest = np.zeros(len(vectors), dtype=np.int64), np.inf
    for n_vectors in range(n_components, vectors.shape[1] + 1):
        place = vectors[:, :n_vectors]
        place = place / np.maximum(np.linalg.norm(place, axis=1, keepdims=True), 1e-12)
        kmeans = KMeans(n_components, n_init=RESTARTS, random_state=seed)
        found = kmeans.fit(place, sample_weight=sample.weight).labels_.astype(np.int64)
        cut = _normalised_cut(graph, found, n_components)
        if cut < smallest:
            best, smallest = found, cut
    return best


def eigenvectors_for(sample: Sample, n_components: int) -> Array:
    """The eigenvectors for cuts into K clusters: shape (n, K + 3), or fewer columns.

    Samples keep the eigenvectors of 12, 24, 48 ... clusters, so that several K share them.
    """
    most = CLUSTERS_AT_LEAST
    while most < n_components:
        most *= 2
    vectors = sample.once(_eigenvectors_of, most + MORE_EIGENVECTORS)
    return vectors[:, : n_components + MORE_EIGENVECTORS]


def _eigenvectors_of(sample: Sample, n_vectors: int) -> Array:
    return _eigenvectors(_smoothing(sample.once(_neighbour_graph)), n_vectors)


def _eigenvectors(smoothing: csr_array, n_vectors: int) -> Array:
    """Eigenvectors of the largest eigenvalues: (n, n_vectors), or fewer columns if n is smaller.

    They are computed for each connected part of the graph. In the whole graph the eigenvalue 1
    has the multiplicity of the number of parts, and the Lanczos iteration would find only one of
    its eigenvectors.
    """
    n_parts, part = connected_components(smoothing, directed=False)
    values, columns = [], []
    sizes = np.bincount(part, minlength=n_parts)
    for p in np.argsort(-sizes, kind="stable")[:n_vectors]:
        members = np.flatnonzero(part == p)
        inner = smoothing[members][:, members]
        wanted = min(n_vectors, len(members))
        if len(members) <= max(200, 3 * wanted):
            value, vector = np.linalg.eigh(inner.toarray())
        else:
            start = np.random.default_rng(0).random(len(members))
            value, vector = eigsh(inner, k=wanted, v0=start)
        for v in np.argsort(-value)[:wanted]:
            column = np.zeros(len(part))
            column[members] = vector[:, v]
            values.append(float(value[v]))
            columns.append(column)
    order = np.argsort(-np.round(values, 12), kind="stable")[:n_vectors]
    return np.stack([columns[i] for i in order], axis=1)


def _normalised_cut(graph: csr_array, cluster: IntArray, n_components: int) -> float:
    """Sum over clusters of the share of edge weight that leaves the cluster."""
    n = len(cluster)
    member = csr_array(coo_array((np.ones(n), (np.arange(n), cluster)), shape=(n, n_components)))
    between = (member.T @ graph @ member).toarray()
    volume = between.sum(axis=1)
    return float(np.sum(1 - np.diag(between) / np.maximum(volume, 1e-12)))
