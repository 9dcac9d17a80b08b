"""The definition of a start, which gives each row an initial cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from vmonf.metrics import match
from vmonf.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: A function of rows (numpy arrays, in standardised units), K and a seed. It returns the cluster of
#: each row, 0 to K - 1, or -1 if the start gives none: int64, shape (n,). A start that chooses
#: among others returns a `Clustering`.
ClusterRows: TypeAlias = "Callable[[Rows[NDArray[Any]], int, int], IntArray | Clustering]"

#: The metric in which a start clusters the rows: standardised columns, or the deviations within
#: clusters.
Metric: TypeAlias = Literal["columns", "within clusters"]
#: The end of a sentence that tells it.
IN_METRIC: dict[Metric, str] = {
    "columns": "",
    "within clusters": ", in the metric of the deviations within clusters",
}


@dataclass(frozen=True)
class Agreement:
    """The start that a fit used, and how it was chosen.

    Attributes
    ----------
    chosen : str
        The name of the start. "centres" if centres were given, and "clusters" if clusters were.
    names : tuple of str
        The candidates, if the start was chosen by agreement; otherwise empty.
    table : tuple of tuples of float
        The mean adjusted Rand index between the clusters that each two candidates find in
        different random parts of the rows. For a candidate and itself it tells how stable its
        clusters are.
    metric : str
        "within clusters" if the candidates clustered the rows in the metric of the deviations
        within clusters, since they agree more there; otherwise "columns".
    """

    chosen: str
    names: tuple[str, ...] = ()
    table: tuple[tuple[float, ...], ...] = ()
    metric: Metric = "columns"

    @property
    def with_others(self) -> float:
        """How well the chosen candidate agrees with others; NaN if there are none.

        Its adjusted Rand index with the candidates of the two other kinds that it agrees with
        most; see `agreement_with_others`.
        """
        if len(self.names) < 2:
            return math.nan
        table = np.array(self.table)
        return float(agreement_with_others(table, self.names)[self.names.index(self.chosen)])

    def __str__(self) -> str:
        """The choice in one sentence."""
        if not self.names:
            return f"The start was {self.chosen!r}."
        return (
            f"The start {self.chosen!r} was chosen from {len(self.names)} methods: its clusters "
            f"agree with those of others by a mean adjusted Rand index of {self.with_others:.2f}"
            f"{IN_METRIC[self.metric]}."
        )


#: Candidates of one kind often have the same clusters, so that they count as one.
KINDS = {"gaussian": "mixture", "merged": "mixture"}
#: A candidate is compared with this many other kinds, those that it agrees with most: few methods
#: find thin or curved clusters.
MOST_COMPARED = 2


def agreement_with_others(table: Array, names: Sequence[str]) -> Array:
    """How well each candidate agrees with the two other kinds that it agrees with most.

    A kind is one candidate, except that the two that fit Gaussian mixtures are one kind.

    Parameters
    ----------
    table : array of shape (C, C)
        How well each two candidates agree, in any measure that can be averaged.
    names : sequence of C str
        Names of the candidates.

    Returns
    -------
    array of shape (C,)
        The mean over these two kinds, of which one with two candidates has the mean of both. NaN
        if all candidates are of one kind.
    """
    kinds = np.array([KINDS.get(name, name) for name in names])
    with_others = np.full(len(names), math.nan)
    for i, own in enumerate(kinds):
        by_kind = [table[i, kinds == kind].mean() for kind in np.unique(kinds) if kind != own]
        if by_kind:
            with_others[i] = np.mean(sorted(by_kind)[-MOST_COMPARED:])
    return with_others


class Clustering(NamedTuple):
    """The clusters of a start that chooses among others.

    Attributes
    ----------
    cluster : int array of shape (n,)
        The cluster of each row, 0 to K - 1, or -1.
    agreement : Agreement or None
        How the start was chosen.
    others : tuple of (str, int array of shape (n,))
        Names and clusters of other candidates, the most agreeing first, for restarts.
    """

    cluster: IntArray
    agreement: Agreement | None = None
    others: tuple[tuple[str, IntArray], ...] = ()


@dataclass(frozen=True)
class Start:
    """A method that gives rows their initial clusters.

    Attributes
    ----------
    cluster : callable
        ``cluster(rows, n_components, seed)`` returns the cluster of each row; see `ClusterRows`.
        Unless `once` is set, it is called only if no row has a label or a given cluster.
    once : bool
        Whether `cluster` is called once for all rows of a fit, including held-out rows, because
        it is expensive. It is then called with labelled rows too, and cluster c must be the one of
        the rows with ``rows.component == c``; see `named_after_labels`. If `once` is not set,
        `cluster` is called for the training rows of each restart, and in each fold of the
        cross-validation.
    pretrain_epochs : int
        Number of epochs of pretraining on the clusters if ``pretrain_epochs="auto"``.
    informed : bool
        False for the paper's start, which has no clusters. Every component is then the Gaussian
        of all rows, and the networks of the flows are drawn at random.
    centres : array of shape (K, D) or None
        Centres that the user gave, in standardised units.
    """

    cluster: ClusterRows
    once: bool = False
    pretrain_epochs: int = 0
    informed: bool = True
    centres: Array | None = None

    def clusters_of(self, rows: Rows[NDArray[Any]], n_components: int, seed: int) -> Clustering:
        """The cluster of each row, checked.

        Raises
        ------
        ValueError
            If the function of the start returns anything but a cluster for each row.
        """
        found = self.cluster(rows, n_components, seed)
        if not isinstance(found, Clustering):
            found = Clustering(found)
        cluster = np.asarray(found.cluster)
        if (
            cluster.shape != (rows.n_rows,)
            or not np.isin(cluster, np.arange(-1, n_components)).all()
        ):
            raise ValueError(
                f"A start must give each of {rows.n_rows} rows a cluster, 0 to {n_components - 1}, "
                "or -1."
            )
        return found._replace(cluster=cluster.astype(np.int64))


def named_after_labels(cluster: IntArray, component: IntArray, n_components: int) -> IntArray:
    """Number clusters so that as many labelled rows as possible are in their component's cluster.

    Parameters
    ----------
    cluster : int array of shape (n,)
        0 to K - 1.
    component : int array of shape (n,)
        The component of each row's label; -1 where there is none.
    n_components : int
    """
    labelled = component >= 0
    shared = np.zeros((n_components, n_components))
    np.add.at(shared, (cluster[labelled], component[labelled]), 1)
    _, name = match(shared)
    named: IntArray = name[cluster]
    return named


def largest_to_largest(cluster: IntArray, weight: Array, component_weights: Array) -> IntArray:
    """Number clusters (n,) so that larger clusters have larger component weights; -1 stays."""
    inside = cluster >= 0
    n_components = len(component_weights)
    sizes = np.bincount(cluster[inside], weights=weight[inside], minlength=n_components)
    component = np.empty(n_components, dtype=np.int64)
    component[np.argsort(-sizes, kind="stable")] = np.argsort(-component_weights, kind="stable")
    return np.where(inside, component[cluster], -1)
