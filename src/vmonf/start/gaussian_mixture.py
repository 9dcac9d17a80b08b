"""The Gaussian mixture from which every fit starts.

On a small table, a mixture of flows can overfit by hundreds of nats where a Gaussian mixture does
not. A new model is therefore a Gaussian mixture. It is fitted by expectation maximisation, with
shrinkage of the covariances chosen by cross-validation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from vmonf.model.build import FULL_COVARIANCE_LIMIT
from vmonf.rows import Rows
from vmonf.start.centres import nearest
from vmonf.start.gaussians import FEWEST_ROWS, Moments, log_joint, moments_of, normalise
from vmonf.start.starts import Start, largest_to_largest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    ArrayRows = Rows[NDArray[Any]]

#: The start uses at most this many rows, drawn at random.
MAX_ROWS = 50_000
#: Cross-validation uses at most this many rows.
MAX_VALIDATION_ROWS = 2_000
#: With at least this many rows for each component and feature, covariances are not shrunk.
AMPLE_ROWS = 50
#: Share of the held-out rows, those of lowest density, that cross-validation leaves out. Otherwise
#: a few outliers would determine the shrinkage and make it too strong for the other rows.
TRIMMED_SHARE = 0.05
VARIANCE_FLOOR = 1e-6
EM_TOLERANCE = 1e-3
EM_ITERATIONS = 100


@dataclass(frozen=True)
class Shrinkage:
    """The shrinkage of the covariances to a common covariance.

    The covariance of component c is (S_c + strength * P) / (n_c + strength). S_c is the scatter
    of the component and n_c its number of rows. P is the covariance pooled over components, whose
    off-diagonal elements are multiplied by 1 - `diagonal_share`. In scikit-learn's terms,
    strength 0 is "full", infinite strength is "tied", and infinite strength with share 1 is a
    tied "diag".

    Source: Friedman, "Regularized Discriminant Analysis" (1989), section 3. The form with a
    strength in rows is the posterior mode under an inverse-Wishart prior.

    Attributes
    ----------
    strength : float
        In rows, from 0 to infinity.
    diagonal_share : float
        From 0 to 1.
    """

    strength: float
    diagonal_share: float


@dataclass(frozen=True)
class GaussianStart:
    """A Gaussian mixture in standardised units.

    Attributes
    ----------
    means : array of shape (K, D)
    covariances : array of shape (K, D, D), or (K, D) where they are diagonal
    weights : array of shape (K,)
    shrinkage : Shrinkage
        The shrinkage of the covariances.
    """

    means: Array
    covariances: Array
    weights: Array
    shrinkage: Shrinkage

    def log_prob(self, Z: Array) -> Array:
        """Log density, in nats: (n, D) to (n,)."""
        return normalise(self.log_joint(Z).T)[0]

    def log_joint(self, Z: Array) -> Array:
        """Log p(z, c) in nats: (n, D) to (n, K)."""
        return log_joint(Z, self.weights, self.means, self.covariances).T


@dataclass(frozen=True)
class GaussianStarter:
    """Fits the Gaussian mixture that a mixture of K flows starts from.

    Parameters
    ----------
    n_components : int
    start : Start
        Clusters the rows if they have no labels or clusters.
    weights : array of shape (K,) or None
        Fixed mixing weights. None estimates them.
    shrinkage : Shrinkage, optional
        Shrinkage of the covariances. None chooses it by cross-validation.
    """

    n_components: int
    start: Start
    weights: Array | None = None
    shrinkage: Shrinkage | None = None

    def fit(
        self, rows: ArrayRows, random: np.random.Generator
    ) -> tuple[GaussianStart, GaussianStart]:
        """Fit to rows in standardised units. Labelled rows keep their component.

        Returns
        -------
        clusters : GaussianStart
            The Gaussians of the initial clusters, or `mixture` if some rows are in no cluster.
        mixture : GaussianStart
            The Gaussian mixture after expectation maximisation.
        """
        if rows.n_rows > MAX_ROWS:
            rows = rows.take(_subsample(rows, random))
        if not self.start.informed:
            everyone = self._of_all(rows, random)
            return everyone, everyone
        with _threads_for(rows):
            shrinkage = self.shrinkage or self._choose_shrinkage(rows, random)
            weight = self._first_weight(rows, random)
            first = _moments(rows, weight)
            mixture = self._maximise(rows, first, shrinkage)
            # The first Gaussians are used only if they were estimated from all rows.
            complete = weight.any(axis=0).all()
            return self._gaussians(first, shrinkage) if complete else mixture, mixture

    def refit(self, rows: ArrayRows, mixture: GaussianStart) -> GaussianStart:
        """Continue expectation maximisation from a mixture, on other rows.

        With more than `MAX_ROWS` rows a refit would gain little, and the mixture is returned.
        """
        if rows.n_rows > MAX_ROWS:
            return mixture
        if not self.start.informed:
            return self._of_all(rows, np.random.default_rng(0))  # a fixed seed is reproducible
        with _threads_for(rows):
            _, weight = _expect(rows, mixture)
            return self._maximise(rows, _moments(rows, weight), mixture.shrinkage)

    def is_ample(self, n_rows: int, n_features: int) -> bool:
        """Whether there are enough rows to estimate the covariances without shrinkage."""
        return n_rows >= AMPLE_ROWS * self.n_components * n_features

    def _of_all(self, rows: ArrayRows, random: np.random.Generator) -> GaussianStart:
        """K copies of the Gaussian of all rows, independent of their labels."""
        n_components = self.n_components
        nowhere = np.full_like(rows.component, -1)
        unlabelled = Rows(rows.x, rows.weight, nowhere, nowhere)
        one, _ = GaussianStarter(1, _ONE_CLUSTER, shrinkage=self.shrinkage).fit(unlabelled, random)
        weights = np.full(n_components, 1 / n_components) if self.weights is None else self.weights
        return GaussianStart(
            one.means.repeat(n_components, axis=0),
            one.covariances.repeat(n_components, axis=0),
            weights,
            one.shrinkage,
        )

    def _choose_shrinkage(self, rows: ArrayRows, random: np.random.Generator) -> Shrinkage:
        n_rows, n_features = rows.x.shape
        if self.is_ample(n_rows, n_features):
            return Shrinkage(strength=0.0, diagonal_share=0.0)
        if n_rows < 4 * self.n_components:  # too few rows for cross-validation
            return Shrinkage(strength=float(n_features), diagonal_share=0.5)
        chosen = random.permutation(n_rows)[:MAX_VALIDATION_ROWS]
        # With many features each fold is expensive.
        n_folds = 5 if n_features <= 32 else 3
        fold_of = np.arange(len(chosen)) % n_folds
        folds = []
        for fold in range(n_folds if n_features <= 100 else 1):
            train = rows.take(chosen[fold_of != fold])
            test = rows.take(chosen[fold_of == fold])
            folds.append((train, _moments(train, self._first_weight(train, random)), test))

        test_weight = np.concatenate([test.weight for _, _, test in folds])

        def held_out(shrinkage: Shrinkage) -> float:
            log_prob = [
                self._maximise(train, first, shrinkage).log_prob(test.x)
                for train, first, test in folds
            ]
            return _trimmed_mean(np.concatenate(log_prob), test_weight)

        scores: dict[Shrinkage, float] = {}
        strengths = [0.1, 1.0, n_features / 3, n_features, 3 * n_features, 10 * n_features, np.inf]
        # Coordinate search over strength and diagonal share, with two rounds. It runs from weak
        # and from strong shrinkage, since there is often a local optimum of each kind.
        for best in (Shrinkage(0.1, 0.1), Shrinkage(float(n_features), 0.1)):
            for _ in range(2):
                for candidates in (
                    [Shrinkage(float(strength), best.diagonal_share) for strength in strengths],
                    [Shrinkage(best.strength, share) for share in (0.0, 0.03, 0.1, 0.3, 1.0)],
                ):
                    for candidate in candidates:
                        if candidate not in scores:
                            scores[candidate] = held_out(candidate)
                    best = max(candidates, key=scores.__getitem__)
        return max(scores, key=scores.__getitem__)

    def _first_weight(self, rows: ArrayRows, random: np.random.Generator) -> Array:
        """Weight of each row in each initial cluster (K, n): zero for a row without a cluster."""
        cluster = np.where(rows.labelled, rows.component, rows.cluster)
        known = cluster >= 0
        if not known.any():
            cluster = self._cluster(rows, random)
        elif len(np.unique(cluster[known])) < self.n_components:
            beside = nearest(rows.x, self._centres_beside(rows, cluster, random))
            cluster = np.where(known, cluster, beside)
        # Otherwise the known rows determine all components, and the other rows are not used.
        used = np.flatnonzero(cluster >= 0)
        first = np.zeros((self.n_components, len(cluster)))
        first[cluster[used], used] = rows.weight[used]
        return first

    def _cluster(self, rows: ArrayRows, random: np.random.Generator) -> IntArray:
        seed = int(random.integers(np.iinfo(np.int32).max))
        cluster = self.start.clusters_of(rows, self.n_components, seed).cluster
        if self.weights is not None and self.start.centres is None:
            cluster = largest_to_largest(cluster, rows.weight, self.weights)
        return cluster

    def _centres_beside(
        self, rows: ArrayRows, cluster: IntArray, random: np.random.Generator
    ) -> Array:
        """Centres (K, D): means of the known clusters, and for the others rows far from them.

        The rows are drawn as in k-means++. If the user gave centres, these are used instead.
        """
        known = np.unique(cluster[cluster >= 0])
        centres = np.zeros((self.n_components, rows.x.shape[1]))
        distances = np.full(rows.n_rows, np.inf)
        for c in (*known, *np.setdiff1d(np.arange(self.n_components), known)):
            members = cluster == c
            if members.any():
                centres[c] = np.average(rows.x[members], axis=0, weights=rows.weight[members])
            elif self.start.centres is not None:
                centres[c] = self.start.centres[c]
            else:
                chances = distances * rows.weight * (cluster < 0)
                if not chances.sum() > 0:
                    chances = rows.weight
                centres[c] = rows.x[random.choice(rows.n_rows, p=chances / chances.sum())]
            distances = np.minimum(distances, np.square(rows.x - centres[c]).sum(axis=1))
        return centres

    def _maximise(self, rows: ArrayRows, first: Moments, shrinkage: Shrinkage) -> GaussianStart:
        """Expectation maximisation, in which labelled rows keep their component."""
        fitted = self._gaussians(first, shrinkage)
        previous = -math.inf
        for _ in range(EM_ITERATIONS):
            log_prob, weight = _expect(rows, fitted)
            fitted = self._gaussians(_moments(rows, weight), shrinkage)
            mean_log_prob = float(log_prob @ rows.weight / rows.weight.sum())
            if mean_log_prob - previous < EM_TOLERANCE:
                break
            previous = mean_log_prob
        return fitted

    def _gaussians(self, moments: Moments, shrinkage: Shrinkage) -> GaussianStart:
        counts = moments.counts
        diagonal = moments.scatters.ndim == 2
        pooled = moments.scatters.sum(axis=0) / counts.sum()
        if not diagonal:
            share = shrinkage.diagonal_share
            pooled = (1 - share) * pooled + share * np.diag(np.diag(pooled))
        if math.isinf(shrinkage.strength):
            covariances = np.repeat(pooled[None], self.n_components, axis=0)
        else:
            rows_of = counts.reshape(-1, *(1,) * pooled.ndim)
            # The strength is positive, so that a component without rows has the pooled covariance.
            strength = max(shrinkage.strength, FEWEST_ROWS)
            covariances = (moments.scatters + strength * pooled) / (rows_of + strength)
        floor = VARIANCE_FLOOR if diagonal else VARIANCE_FLOOR * np.eye(len(pooled))
        weights = counts / counts.sum() if self.weights is None else self.weights
        return GaussianStart(
            moments.means, covariances + floor, np.maximum(weights, 1e-12), shrinkage
        )


#: A start that puts all rows in one cluster.
_ONE_CLUSTER = Start(lambda rows, n_components, seed: np.zeros(rows.n_rows, dtype=np.int64))


def _expect(rows: ArrayRows, mixture: GaussianStart) -> tuple[Array, Array]:
    """Log density of each row (n,), in nats, and its weight in each component (K, n)."""
    log_prob, weight = normalise(mixture.log_joint(rows.x).T, rows.weight)
    labelled = np.flatnonzero(rows.labelled)
    weight[:, labelled] = 0.0
    weight[rows.component[labelled], labelled] = rows.weight[labelled]
    return log_prob, weight


def _moments(rows: ArrayRows, weight: Array) -> Moments:
    return moments_of(rows.x, weight, diagonal=rows.x.shape[1] > FULL_COVARIANCE_LIMIT)


def _threads_for(rows: ArrayRows) -> threadpool_limits:
    """Use one thread for products of small matrices, which more threads do not make faster."""
    return threadpool_limits(1 if rows.x.shape[1] <= 64 else None)


def _subsample(rows: ArrayRows, random: np.random.Generator) -> IntArray:
    """Indices of `MAX_ROWS` random rows, at most half of them labelled if others suffice."""
    order = random.permutation(rows.n_rows)
    labelled = rows.labelled[order]
    n_labelled = min(int(labelled.sum()), MAX_ROWS // 2)
    n_others = min(int((~labelled).sum()), MAX_ROWS - n_labelled)
    n_labelled = MAX_ROWS - n_others
    kept: IntArray = np.concatenate([order[labelled][:n_labelled], order[~labelled][:n_others]])
    return kept


def _trimmed_mean(values: Array, weight: Array) -> float:
    """Weighted mean without the lowest values, whose share of the weight is `TRIMMED_SHARE`."""
    order = np.argsort(values, kind="stable")
    kept = order[np.cumsum(weight[order]) > TRIMMED_SHARE * weight.sum()]
    return float(np.average(values[kept], weights=weight[kept]))
