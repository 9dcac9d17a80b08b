"""From rows and a start to the Gaussian mixture that a fit begins with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vmonf.machine import blas_threads_for
from vmonf.rows import Rows, folds_of
from vmonf.start.atoms import clusters_within, is_better, number_of_atoms
from vmonf.start.centres import nearest
from vmonf.start.gaussian_mixture import TOLERANCE as EM_TOLERANCE
from vmonf.start.gaussian_mixture import (
    ExpectationMaximisation,
    GaussianStart,
    Shrinkage,
    expect,
    first_weight,
)
from vmonf.start.starts import Start, largest_to_largest
from vmonf.start.validation import validated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    ArrayRows = Rows[NDArray[Any]]

#: The Gaussian mixture is fitted to at most this many rows, drawn at random.
MAX_ROWS = 50_000
#: Cross-validation uses at most this many rows.
MAX_VALIDATION_ROWS = 2_000
#: With at least this many rows for each Gaussian and feature, covariances are not shrunk.
AMPLE_ROWS = 50
#: Share of the held-out rows, those of lowest density, that cross-validation leaves out. Otherwise
#: a few outliers would determine the shrinkage and make it too strong for the other rows.
TRIMMED_SHARE = 0.05
#: The weakest strength that the search begins with, and the weakest that it takes.
WEAK, LEAST_STRENGTH = 0.1, 1e-4
#: The shares of the diagonal and of the sphere that cross-validation tries.
SHARES = ((0.0, 0.0), (0.03, 0.0), (0.1, 0.0), (0.3, 0.0), (1.0, 0.0), (1.0, 1.0))
#: The shares with which components keep the diagonals of their own covariances.
OWN = (1.0, 0.0, True)
#: The shares with too few rows for cross-validation.
ROUND = (1.0, 0.5)
#: Fewer rows are too few for cross-validation.
FEWEST_TO_VALIDATE = 5
#: In cross-validation, expectation maximisation ends at this gain of an iteration, in nats per row.
TOLERANCE = 1e-3
#: If components have several atoms, the first cluster of a row counts as this many nats of evidence
#: for its component. Without it, atoms at the border of two clusters drift from one to the other.
EVIDENCE = 1.5
#: If fewer rows than this share are in the initial clusters, as with a few labels, the Gaussians
#: of the clusters are not used.
LEAST_IN_CLUSTERS = 0.3


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
    atoms : int or "auto"
        The number of Gaussians of each component. "auto" chooses it by held-out likelihood.
    broad_weight : float
        The broad part of each component; see `GaussianStart`.
    """

    n_components: int
    start: Start
    weights: Array | None = None
    shrinkage: Shrinkage | None = None
    atoms: int | Literal["auto"] = 1
    broad_weight: float = 0.0

    def fit(
        self, rows: ArrayRows, random: np.random.Generator
    ) -> tuple[GaussianStart, GaussianStart]:
        """Fit to rows in standardised units. Labelled rows keep their component.

        Returns
        -------
        clusters : GaussianStart
            One Gaussian for each initial cluster; or, if most rows are in no cluster, the mixture
            of one Gaussian for each component after expectation maximisation.
        mixture : GaussianStart
            The Gaussian mixture after expectation maximisation.
        """
        if rows.n_rows > MAX_ROWS:
            rows = rows.take(_subsample(rows, random))
        if not self.start.informed:
            everyone = self._of_all(rows, random)
            return everyone, everyone
        with blas_threads_for(rows.x.shape[1]):
            weight = self._first_weight(rows, random)
            n_atoms, shrinkage = self._choose(rows, weight, random)
            one = self._maximisation(np.ones_like(n_atoms), shrinkage)
            few = np.mean(weight.any(axis=0)) < LEAST_IN_CLUSTERS
            clusters = one.run(rows, weight) if few else one.estimate(rows, weight)
            if n_atoms.sum() == self.n_components:
                return clusters, one.run(rows, weight)
            rows = _in_clusters(rows, weight)
            first = _in_atoms(rows, weight, n_atoms, random)
            return clusters, self._maximisation(n_atoms, shrinkage).run(rows, first)

    def refit(
        self, rows: ArrayRows, mixture: GaussianStart, tolerance: float = EM_TOLERANCE
    ) -> GaussianStart:
        """Continue expectation maximisation from a mixture, on other rows.

        It ends when an iteration gains less than `tolerance`, in nats per row. With more than
        `MAX_ROWS` rows a refit would gain little, and the mixture is returned.
        """
        if rows.n_rows > MAX_ROWS:
            return mixture
        if not self.start.informed:
            return self._of_all(rows, np.random.default_rng(0))  # a fixed seed is reproducible
        with blas_threads_for(rows.x.shape[1]):
            maximisation = self._maximisation(mixture.n_atoms, mixture.shrinkage, tolerance)
            _, weight = expect(rows, mixture, maximisation.evidence)
            return maximisation.run(rows, weight)

    def is_ample(self, n_rows: int, n_features: int) -> bool:
        """Whether there are enough rows to estimate the covariances without shrinkage."""
        return n_rows >= AMPLE_ROWS * self.n_components * n_features

    def _of_all(self, rows: ArrayRows, random: np.random.Generator) -> GaussianStart:
        """K copies of the Gaussian of all rows, independent of their labels."""
        n_components = self.n_components
        nowhere = np.full_like(rows.component, -1)
        unlabelled = replace(rows, component=nowhere, cluster=nowhere)
        one, _ = GaussianStarter(1, _ONE_CLUSTER, shrinkage=self.shrinkage).fit(unlabelled, random)
        weights = np.full(n_components, 1 / n_components) if self.weights is None else self.weights
        return GaussianStart(
            one.means.repeat(n_components, axis=0),
            one.covariances.repeat(n_components, axis=0),
            weights,
            np.arange(n_components),
            one.shrinkage,
            self.broad_weight,
        )

    def _maximisation(
        self, n_atoms: IntArray, shrinkage: Shrinkage, tolerance: float = EM_TOLERANCE
    ) -> ExpectationMaximisation:
        component = np.repeat(np.arange(self.n_components), n_atoms)
        evidence = EVIDENCE if len(component) > self.n_components else 0.0
        return ExpectationMaximisation(
            component, shrinkage, self.weights, self.broad_weight, evidence, tolerance
        )

    def _choose(
        self, rows: ArrayRows, weight: Array, random: np.random.Generator
    ) -> tuple[IntArray, Shrinkage]:
        """The number of atoms of each component (K,), and the shrinkage of their covariances.

        Several atoms must also have a higher held-out likelihood, all components together, than
        one each: the edge of a cluster that overlaps with another is not Gaussian, although the
        component may be.
        """
        one = np.ones(self.n_components, dtype=np.int64)
        if self.atoms == "auto":
            members = [rows.take(np.flatnonzero(of_component)) for of_component in weight]
            n_atoms = np.array([number_of_atoms(each, random) for each in members])
        else:
            n_atoms = self.atoms * one
        if n_atoms.sum() == self.n_components or self.atoms != "auto":
            return n_atoms, self.shrinkage or self._shrinkage(rows, weight, n_atoms, random)[0]
        rows = _in_clusters(rows, weight)
        seed = int(random.integers(np.iinfo(np.int32).max))
        (first, of_one, _), (second, of_several, tested) = (
            self._shrinkage(rows, weight, number, np.random.default_rng(seed), always=True)
            for number in (one, n_atoms)
        )
        if is_better(of_several, of_one, tested):
            return n_atoms, second
        return one, first

    def _shrinkage(
        self,
        rows: ArrayRows,
        weight: Array,
        n_atoms: IntArray,
        random: np.random.Generator,
        *,
        always: bool = False,
    ) -> tuple[Shrinkage, Array, Array]:
        """The shrinkage of highest cross-validated likelihood.

        Also the log density and the weight of the rows on which it was validated, if there is a
        choice, or if they are needed in any case (`always`).
        """
        n_rows, n_features = rows.x.shape
        n_gaussians = int(n_atoms.sum())
        several = n_gaussians > self.n_components
        candidates = None
        if self.shrinkage is not None:
            candidates = [self.shrinkage]
        elif n_rows >= AMPLE_ROWS * n_gaussians * n_features:
            candidates = [Shrinkage(strength=0.0, diagonal_share=0.0)]
        elif n_rows < FEWEST_TO_VALIDATE or n_rows * 4 // 5 <= self.n_components:
            # Of fewer rows than these, the folds tell nothing.
            candidates = [Shrinkage(float(n_features), *ROUND)]
        elif several:
            # The atoms of a cluster differ from those of another, and a strong shrinkage to a
            # common covariance is of no use, unless this is a sphere.
            strengths = (0.1, 1.0, float(n_features), 3.0 * n_features)
            candidates = [Shrinkage(strength, 0.1) for strength in strengths]
            candidates += [Shrinkage(strength * n_features, 1.0, 1.0) for strength in (1.0, 10.0)]
            candidates += [Shrinkage(math.inf, *OWN)]
        if candidates is not None and len(candidates) == 1 and not always:
            return candidates[0], np.empty(0), np.empty(0)
        chosen = random.permutation(n_rows)[:MAX_VALIDATION_ROWS]
        # With many features or Gaussians each fold is expensive.
        n_folds = 5 if n_features <= 32 and not several and not always else 3
        folds = []
        parts = folds_of(rows.take(chosen), n_folds)
        for train, test in islice(parts, n_folds if n_features <= 100 else 1):
            first = _in_atoms(train, self._first_weight(train, random), n_atoms, random)
            folds.append((train, first, test))
        test_weight = np.concatenate([test.weight for _, _, test in folds])
        held_out: dict[Shrinkage, Array] = {}
        scores: dict[Shrinkage, float] = {}

        def score(shrinkage: Shrinkage) -> float:
            if shrinkage not in scores:
                maximisation = self._maximisation(n_atoms, shrinkage, TOLERANCE)
                log_prob = validated(
                    (
                        (maximisation.run(train, first).log_prob(test.x), test.weight)
                        for train, first, test in folds
                    ),
                    held_out[max(held_out, key=scores.__getitem__)] if held_out else None,
                )
                scores[shrinkage] = -math.inf
                if log_prob is not None:
                    held_out[shrinkage] = log_prob
                    scores[shrinkage] = _trimmed_mean(log_prob, test_weight)
            return scores[shrinkage]

        if candidates is not None:
            best = max(candidates, key=score)
        else:
            best = _coordinate_search(score, n_features)
        return best, held_out[best], test_weight

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
        return first_weight(cluster, rows.weight, self.n_components)

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


def _coordinate_search(score: Callable[[Shrinkage], float], n_features: int) -> Shrinkage:
    """The best shrinkage found by search over strength and diagonal share in turn.

    There are two rounds, from almost full covariances, full ones and spheres, since there is often
    a local optimum of each kind: rows near a plane need full ones. If the weakest is the best,
    weaker ones are tried, as clusters that lie in different planes need. Beside these, strong
    shrinkage to the own diagonals is tried.
    """
    strengths = [WEAK, 1.0, n_features / 3, n_features, 3 * n_features, 10 * n_features, np.inf]
    found = []
    for best in (Shrinkage(WEAK, 0.1), Shrinkage(WEAK, 0.0), Shrinkage(WEAK, 1.0, 1.0)):
        for _ in range(2):
            of_strengths = [replace(best, strength=float(each)) for each in strengths]
            best = max(of_strengths, key=score)
            best = max([Shrinkage(best.strength, *shares) for shares in SHARES], key=score)
        found.append(best)
    if n_features > 1:
        strong = (3 * n_features, 10 * n_features, 30 * n_features, np.inf)
        found += [Shrinkage(float(strength), *OWN) for strength in strong]
    best = max(found, key=score)
    while LEAST_STRENGTH < best.strength <= WEAK:
        weaker = replace(best, strength=best.strength / 10)
        if score(weaker) <= score(best):
            break
        best = weaker
    return best


#: A start that puts all rows in one cluster.
_ONE_CLUSTER = Start(lambda rows, n_components, seed: np.zeros(rows.n_rows, dtype=np.int64))


def _in_clusters(rows: ArrayRows, weight: Array) -> ArrayRows:
    """The rows with the clusters of their first weights (K, n); -1 where these are all zero."""
    inside = weight.any(axis=0)
    return replace(rows, cluster=np.where(inside, weight.argmax(axis=0), -1))


def _in_atoms(
    rows: ArrayRows, weight: Array, n_atoms: IntArray, random: np.random.Generator
) -> Array:
    """First weights of the atoms (A, n), from those of the components (K, n)."""
    if n_atoms.sum() == len(weight):
        return weight
    first = np.zeros((int(n_atoms.sum()), rows.n_rows))
    begin = 0
    for of_c, number in zip(weight, n_atoms.tolist(), strict=True):
        members = np.flatnonzero(of_c)
        number_found = min(number, max(1, len(members)))
        atom = clusters_within(rows.take(members), number_found, random)
        first[begin + atom, members] = of_c[members]
        begin += number
    return first


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
