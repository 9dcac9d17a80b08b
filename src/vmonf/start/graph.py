"""Clusters along the graph of nearest neighbours, whatever their shape.

Rows belong together that a chain of near rows links. Where clusters are rings, wings or
digits, k-means and a Gaussian mixture cut them; the graph follows them. Without labels it is
cut where few edges are (spectral clustering), with labels these spread along its edges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import cg, eigsh
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_random_state

from vmonf.metrics import match

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Each row is linked with so many nearest ones.
NEIGHBOURS = 10
#: Distances are taken along so many principal axes, where there are more features.
PRINCIPAL_AXES = 50
#: Rows of the graph; of more, these many are drawn at random.
MAX_ROWS = 50_000
#: Cuts are made from K eigenvectors, and from up to so many more: with exactly K a stray bunch
#: of rows takes the place of a cluster.
MORE_EIGENVECTORS = 3
#: Weight of the neighbours beside that of a row's own label; Zhou et al. (2004), section 3.
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
        Finite; distances are in its units, so scale features first where these differ. Beyond
        50 features distances are along the first 50 principal axes.
    n_components : int
        K, how many clusters.
    component : int array of shape (n,), optional
        The cluster a row is known to belong to, 0 to K - 1; -1 where it is not known. With
        rows known of every cluster, these spread along the graph; else they say which of the
        clusters found is which.
    weight : array of shape (n,), optional
        How much each row counts where clusters are balanced.
    random_state : int, RandomState or None, default=None

    Returns
    -------
    array of shape (n,)
        0 to K - 1; -1 where the graph says nothing: rows that no label reaches, and beyond
        50,000 rows those that were not drawn.

    Notes
    -----
    Source of the spectral clusters: Ng, Jordan & Weiss, "On spectral clustering" (2002). They
    are made from K, K + 1, ... eigenvectors, and those of the smallest normalised cut kept
    (Shi & Malik, "Normalized cuts and image segmentation", 2000). Source of the spreading: Zhou
    et al., "Learning with local and global consistency" (2004).
    """
    random = check_random_state(random_state)
    known = np.full(len(X), -1) if component is None else np.asarray(component)
    weights = np.ones(len(X)) if weight is None else np.asarray(weight)
    chosen = _drawn(known, random)
    cluster = np.full(len(X), -1, dtype=np.int64)
    if n_components == 1:
        return np.zeros_like(cluster)
    graph = _neighbour_graph(np.asarray(X)[chosen], random)
    known = known[chosen]
    if len(np.unique(known[known >= 0])) == n_components:
        found = _spread(graph, known, n_components)
    else:
        found = _cut(graph, n_components, weights[chosen], random)
        found = _named_after(found, known, n_components)
    cluster[chosen] = np.where(known >= 0, known, found)
    return cluster


def _drawn(known: IntArray, random: np.random.RandomState) -> IntArray:
    """Rows of the graph: all, or `MAX_ROWS` of them, the known ones first."""
    if len(known) <= MAX_ROWS:
        return np.arange(len(known))
    order = random.permutation(len(known))
    order = order[np.argsort(known[order] < 0, kind="stable")]
    return np.sort(order[:MAX_ROWS])


def _neighbour_graph(X: Array, random: np.random.RandomState) -> csr_array:
    """Symmetric adjacency of shape (n, n): 1 between rows near to each other, 1/2 one way."""
    if min(X.shape) > PRINCIPAL_AXES:
        pca = PCA(PRINCIPAL_AXES, svd_solver="randomized", random_state=random)
        X = pca.fit_transform(X)
    n_neighbours = min(NEIGHBOURS, len(X) - 1)
    nearest = NearestNeighbors(n_neighbors=n_neighbours).fit(X)
    one_way = csr_array(nearest.kneighbors_graph())
    return csr_array((one_way + one_way.T) / 2)


def _smoothing(graph: csr_array) -> csr_array:
    """The adjacency divided by the roots of both rows' degrees: eigenvalues of at most 1."""
    root = diags_array(1 / np.sqrt(graph.sum(axis=1)))
    return csr_array(root @ graph @ root)


def _spread(graph: csr_array, known: IntArray, n_components: int) -> IntArray:
    """The label that most of what reaches a row comes from; -1 where none does."""
    n = len(known)
    system = diags_array(np.ones(n)) - SPREAD * _smoothing(graph)
    reach = np.zeros((n, n_components))
    for c in range(n_components):
        source = (known == c) / np.sum(known == c)  # classes count alike, however many labels
        reach[:, c], _ = cg(system, source, rtol=1e-8, atol=0.0, maxiter=2000)
    # Where no label is in reach the solver gives zeros.
    found: IntArray = np.where(reach.max(axis=1) > 0, reach.argmax(axis=1), -1)
    return found


def _cut(
    graph: csr_array, n_components: int, weight: Array, random: np.random.RandomState
) -> IntArray:
    """Spectral clusters of the smallest normalised cut."""
    vectors = _eigenvectors(_smoothing(graph), n_components + MORE_EIGENVECTORS)
    seed = int(random.randint(np.iinfo(np.int32).max))
    best, smallest = np.zeros(len(vectors), dtype=np.int64), np.inf
    for n_vectors in range(n_components, vectors.shape[1] + 1):
        place = vectors[:, :n_vectors]
        place = place / np.maximum(np.linalg.norm(place, axis=1, keepdims=True), 1e-12)
        kmeans = KMeans(n_components, n_init=10, random_state=seed)
        found = kmeans.fit(place, sample_weight=weight).labels_.astype(np.int64)
        cut = _normalised_cut(graph, found, n_components)
        if cut < smallest:
            best, smallest = found, cut
    return best


def _eigenvectors(smoothing: csr_array, n_vectors: int) -> Array:
    """Those of the largest eigenvalues, (n, n_vectors), or of all where there are fewer.

    Each connected part has its own: over all parts at once the eigenvalue 1 would come as
    often as there are parts, of which the Lanczos iteration sees one.
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
    """Sum over clusters of the share of their edges that leave them."""
    n = len(cluster)
    member = csr_array(coo_array((np.ones(n), (np.arange(n), cluster)), shape=(n, n_components)))
    between = (member.T @ graph @ member).toarray()
    volume = between.sum(axis=1)
    return float(np.sum(1 - np.diag(between) / np.maximum(volume, 1e-12)))


def _named_after(cluster: IntArray, known: IntArray, n_components: int) -> IntArray:
    """Number the clusters so that as many known rows as can be are in their own."""
    is_known = known >= 0
    shared = np.zeros((n_components, n_components))
    np.add.at(shared, (cluster[is_known], known[is_known]), 1)
    _, name = match(shared)
    named: IntArray = name[cluster]
    return named
