"""The Gaussian mixture from which every fit starts.

On a small table, a mixture of flows can overfit by hundreds of nats where a Gaussian mixture does
not. A new model is therefore a Gaussian mixture, each of whose components is one Gaussian or
several, its atoms. It is fitted by expectation maximisation, with shrinkage of the covariances
chosen by cross-validation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vmonf.flows.base import DEGREES, student_t_constant
from vmonf.model.build import FULL_COVARIANCE_LIMIT
from vmonf.rows import Rows
from vmonf.start.gaussians import FEWEST_ROWS, Moments, log_joint, moments_of, normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    ArrayRows = Rows[NDArray[Any]]

VARIANCE_FLOOR = 1e-6
#: Expectation maximisation ends when an iteration gains less than this, in nats per row.
TOLERANCE = 1e-6
MAX_ITERATIONS = 500
#: The weight, in rows, of the pooled covariance in the own diagonal of a component.
ROWS_OF_POOLED = 1.0
#: Lower bound of the size of a Gaussian before it is shrunk: equal rows have none.
LEAST_SIZE = 1e-12


@dataclass(frozen=True)
class Shrinkage:
    """The shrinkage of the covariances to a common covariance.

    The covariance of component c is (S_c + strength * s_c * P) / (n_c + strength). S_c is the
    scatter of the component, n_c its number of rows, and s_c its size; see `sizes_of`. P is the
    covariance pooled over components, whose off-diagonal elements are multiplied by
    1 - `diagonal_share`, and which is then mixed with a multiple of the identity of the same
    trace, of weight `spherical_share`. With infinite strength the covariance is P. If
    `own_diagonal`, s_c * P is replaced by the diagonal of the component's own covariance, to which
    s_c * P adds one row. In scikit-learn's terms, strength 0 is "full", a large strength
    with spherical share 1 is about "spherical", infinite strength is "tied", and infinite strength
    with the own diagonal is "diag".

    Source: Friedman, "Regularized Discriminant Analysis" (1989), section 3. The form with a
    strength in rows is the posterior mode under an inverse-Wishart prior.

    Attributes
    ----------
    strength : float
        In rows, from 0 to infinity.
    diagonal_share, spherical_share : float
        From 0 to 1.
    own_diagonal : bool
    """

    strength: float
    diagonal_share: float
    spherical_share: float = 0.0
    own_diagonal: bool = False

    def target(self, pooled: Array) -> Array:
        """P, from the pooled covariance (D, D), or (D,) of variances."""
        if pooled.ndim == 1:
            variances, sphere = pooled, np.full_like(pooled, pooled.mean())
        else:
            diagonal = np.diag(np.diag(pooled))
            variances = (1 - self.diagonal_share) * pooled + self.diagonal_share * diagonal
            sphere = np.trace(pooled) / len(pooled) * np.eye(len(pooled))
        found: Array = (1 - self.spherical_share) * variances + self.spherical_share * sphere
        return found


@dataclass(frozen=True)
class GaussianStart:
    """A mixture of A Gaussians, the atoms, which belong to K components; in standardised units.

    Attributes
    ----------
    means : array of shape (A, D)
    covariances : array of shape (A, D, D), or (A, D) where they are diagonal
    weights : array of shape (A,)
        They sum to one over all atoms.
    component : int array of shape (A,)
        The component of each atom, in ascending order. Every component has at least one atom.
    shrinkage : Shrinkage
        The shrinkage of the covariances.
    broad_weight : float
        Weight, within each component, of a Student-t distribution with the mean of the component
        and its covariance as the scale; see `vmonf.flows.base.Base`.
    """

    means: Array
    covariances: Array
    weights: Array
    component: IntArray
    shrinkage: Shrinkage
    broad_weight: float = 0.0

    @property
    def n_atoms(self) -> IntArray:
        """The number of atoms of each component: shape (K,)."""
        return np.bincount(self.component)

    def log_prob(self, Z: Array) -> Array:
        """Log density, in nats: (n, D) to (n,)."""
        return normalise(self.log_joint(Z).T)[0]

    def log_joint(self, Z: Array) -> Array:
        """Log p(z, c) in nats: (n, D) to (n, K)."""
        joint = self._by_component(self.atom_log_joint(Z))
        if self.broad_weight:
            weights, means, covariances = self.whole_components()
            n_features = means.shape[1]
            # Log densities of Gaussians, minus their values at the means, give the distances.
            of_gaussians = log_joint(Z, np.ones(len(means)), means, covariances)
            variances = covariances if covariances.ndim == 2 else np.linalg.eigvalsh(covariances)
            half_log_det = 0.5 * np.log(variances).sum(axis=1)[:, None]
            highest = -0.5 * n_features * math.log(2 * math.pi) - half_log_det
            distance = np.maximum(2 * (highest - of_gaussians), 0)
            broad = student_t_constant(n_features) - half_log_det
            broad = broad - 0.5 * (DEGREES + n_features) * np.log1p(distance / DEGREES)
            broad += np.log(weights * self.broad_weight)[:, None]
            joint = np.logaddexp(joint + math.log1p(-self.broad_weight), broad)
        return joint.T

    def _by_component(self, values: Array) -> Array:
        """Log of the sums of exponentials over the atoms of each component: (A, n) to (K, n)."""
        firsts = np.concatenate([[0], np.cumsum(self.n_atoms)[:-1]])
        if len(values) == len(firsts):
            return values
        summed: Array = np.logaddexp.reduceat(values, firsts, axis=0)
        return summed

    def whole_components(self) -> tuple[Array, Array, Array]:
        """Weight, mean and covariance of each component: (K,), (K, D), (K, D, D) or (K, D)."""
        n_components = len(self.n_atoms)
        member = np.zeros((n_components, len(self.weights)))
        member[self.component, np.arange(len(self.weights))] = self.weights
        weights = member.sum(axis=1)
        share = member / weights[:, None]
        means = share @ self.means
        apart = self.means - means[self.component]
        spread = self.covariances + (
            np.square(apart)
            if self.covariances.ndim == 2
            else apart[:, :, None] * apart[:, None, :]
        )
        return weights, means, np.tensordot(share, spread, axes=1)

    def atom_log_joint(self, Z: Array) -> Array:
        """Log p(z, atom) in nats: (n, D) to (A, n)."""
        return log_joint(Z, self.weights, self.means, self.covariances)


@dataclass(frozen=True)
class ExpectationMaximisation:
    """Expectation maximisation of a mixture of A Gaussians, which belong to K components.

    Source: Dempster, Laird & Rubin, "Maximum likelihood from incomplete data via the EM
    algorithm" (1977), section 4.3.

    Attributes
    ----------
    component : int array of shape (A,)
        The component of each Gaussian, in ascending order.
    shrinkage : Shrinkage
    weights : array of shape (K,) or None
        Fixed mixing weights of the components. None estimates them.
    broad_weight : float
        That of the result. It does not change the estimates.
    evidence : float
        The cluster of a row counts as this many nats of evidence that the row is from the
        component of this cluster. 0 does not look at the clusters.
    tolerance : float
        Ends when an iteration gains less than this, in nats per row.
    """

    component: IntArray
    shrinkage: Shrinkage
    weights: Array | None = None
    broad_weight: float = 0.0
    evidence: float = 0.0
    tolerance: float = TOLERANCE

    def run(self, rows: ArrayRows, weight: Array) -> GaussianStart:
        """Fit to rows in standardised units. Labelled rows keep their component.

        Parameters
        ----------
        rows : Rows
        weight : array of shape (A, n)
            First weight of each row in each Gaussian.
        """
        fitted = self.estimate(rows, weight)
        previous = -math.inf
        for _ in range(MAX_ITERATIONS):
            log_prob, weight = expect(rows, fitted, self.evidence)
            fitted = self.estimate(rows, weight)
            mean_log_prob = float(log_prob @ rows.weight / rows.weight.sum())
            if mean_log_prob - previous < self.tolerance:
                break
            previous = mean_log_prob
        return fitted

    def estimate(self, rows: ArrayRows, weight: Array) -> GaussianStart:
        """The Gaussians of rows with these weights: (A, n)."""
        diagonal = rows.x.shape[1] > FULL_COVARIANCE_LIMIT
        moments = moments_of(rows.x, weight, diagonal=diagonal)
        counts, shrinkage = moments.counts, self.shrinkage
        pooled = shrinkage.target(moments.scatters.sum(axis=0) / counts.sum())
        rows_of = counts.reshape(-1, *(1,) * pooled.ndim)
        is_tied = math.isinf(shrinkage.strength) and not shrinkage.own_diagonal
        sizes = np.ones(len(counts)) if is_tied else sizes_of(moments, pooled)
        target = sizes.reshape(rows_of.shape) * pooled
        if shrinkage.own_diagonal:
            target = _diagonal(
                (moments.scatters + ROWS_OF_POOLED * target) / (rows_of + ROWS_OF_POOLED)
            )
        covariances = target
        if not math.isinf(shrinkage.strength):
            # The strength is positive, so that a Gaussian without rows has the pooled covariance.
            strength = max(shrinkage.strength, FEWEST_ROWS)
            covariances = (moments.scatters + strength * target) / (rows_of + strength)
        floor = VARIANCE_FLOOR if diagonal else VARIANCE_FLOOR * np.eye(len(pooled))
        shares = counts / counts.sum()
        if self.weights is not None:
            of_component = np.bincount(self.component, weights=counts)[self.component]
            even = 1 / np.bincount(self.component)[self.component]
            within = np.where(
                of_component > FEWEST_ROWS, counts / np.maximum(of_component, FEWEST_ROWS), even
            )
            shares = self.weights[self.component] * within
        return GaussianStart(
            moments.means,
            covariances + floor,
            np.maximum(shares, 1e-12),
            self.component,
            shrinkage,
            self.broad_weight,
        )


def _diagonal(covariances: Array) -> Array:
    """Covariances (A, D, D) without what is off their diagonals; variances (A, D) as they are."""
    if covariances.ndim == 2:
        return covariances
    found: Array = covariances * np.eye(covariances.shape[-1])
    return found


def sizes_of(moments: Moments, pooled: Array) -> Array:
    """The variance of each Gaussian in units of the pooled one, averaged over directions: (A,).

    Covariances are shrunk to the pooled one times this size: a narrow cluster beside wide ones
    stays narrow. Its logarithm is shrunk to zero, as the posterior mean is under a normal prior of
    variance one: the logarithm of an average over D (n_c - 1) values has a variance of about
    2 / (D (n_c - 1)). An average of sizes, in place of logarithms, would make a spike of a
    thousandth of the width of the others a hundred times as wide.

    Parameters
    ----------
    moments : Moments
    pooled : array of shape (D, D), or (D,) of variances
    """
    if pooled.ndim == 1:
        distances = (moments.scatters / (pooled + VARIANCE_FLOOR)).sum(axis=1)
    else:
        precision = np.linalg.inv(pooled + VARIANCE_FLOOR * np.eye(len(pooled)))
        distances = np.einsum("kij,ji->k", moments.scatters, precision)
    n_features = len(pooled)
    n_free = np.maximum(n_features * (moments.counts - 1), FEWEST_ROWS)
    logs = np.log(np.maximum(distances / n_free, LEAST_SIZE))
    sizes: Array = np.exp(logs * n_free / (n_free + 2))
    return sizes


def expect(rows: ArrayRows, mixture: GaussianStart, evidence: float = 0.0) -> tuple[Array, Array]:
    """Log density of each row (n,), in nats, and its weight in each Gaussian (A, n).

    Evidence of a row's cluster, in nats, adds to the log density of the Gaussians of this cluster.
    """
    joint = mixture.atom_log_joint(rows.x)
    if evidence:
        joint += evidence * (mixture.component[:, None] == rows.cluster)
    labelled = np.flatnonzero(rows.labelled)
    if not len(labelled):
        return normalise(joint, rows.weight)
    own = mixture.component[:, None] == rows.component[labelled]
    _, of_labelled = normalise(np.where(own, joint[:, labelled], -np.inf), rows.weight[labelled])
    log_prob, weight = normalise(joint, rows.weight)
    weight[:, labelled] = np.where(own, of_labelled, 0.0)
    return log_prob, weight


def first_weight(cluster: IntArray, weight: Array, n_gaussians: int) -> Array:
    """Weight of each row in the Gaussian of its cluster (A, n): zero where the cluster is -1."""
    used = np.flatnonzero(cluster >= 0)
    first = np.zeros((n_gaussians, len(cluster)))
    first[cluster[used], used] = weight[used]
    return first


def mixture_from_clusters(
    x: Array,
    weight: Array,
    cluster: IntArray,
    n_gaussians: int,
    shrinkage: Shrinkage,
    tolerance: float,
) -> GaussianStart:
    """A mixture of Gaussians, fitted to rows without labels from their first clusters.

    Parameters
    ----------
    x : array of shape (n, D)
        Rows in standardised units.
    weight : array of shape (n,)
    cluster : int array of shape (n,)
        0 to A - 1.
    n_gaussians : int
        A.
    shrinkage : Shrinkage
    tolerance : float
        See `ExpectationMaximisation`.
    """
    nowhere = np.full(len(x), -1)
    maximisation = ExpectationMaximisation(np.arange(n_gaussians), shrinkage, tolerance=tolerance)
    return maximisation.run(
        Rows(x, weight, nowhere, nowhere), first_weight(cluster, weight, n_gaussians)
    )
