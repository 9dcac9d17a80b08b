"""The number of clusters at which several starts agree.

With the wrong number of clusters, each method divides or joins clusters in its own way. With the
right one, methods that find the clusters find the same. So the candidates of `init="auto"` cluster
the rows with each K, and K is chosen by how well they agree, and by how clearly K peaks of the
density stand out from the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from vmonf.rows import Rows
from vmonf.start.agreement import CANDIDATES, agreements
from vmonf.start.centres import kmeans
from vmonf.start.gaussian_mixture import GaussianStart
from vmonf.start.graph import eigenvectors_for
from vmonf.start.merged import mixture_of
from vmonf.start.peaks import prominences
from vmonf.start.sample import (
    NEIGHBOURS,
    Sample,
    clusters_of_sample,
    drawn,
    filled_clusters,
    sample_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: The search uses at most this many rows.
MAX_ROWS = 5_000
#: The search goes up to this K even if the density has fewer peaks.
SEARCHED_AT_LEAST = 12
#: The search goes beyond the number of peaks by this factor, since a cluster may have no peak.
BEYOND_PEAKS = 1.25
#: K is at most the number of rows divided by this.
FEWEST_ROWS_A_CLUSTER = 5
#: Standard error of the difference of two log densities, in nats, each from the distance to
#: `NEIGHBOURS` neighbours. The volume that holds k neighbours has a gamma distribution, and the
#: variance of its logarithm is about 1 / k.
STANDARD_ERROR = math.sqrt(2 / NEIGHBOURS)
#: A prominence of less than this many standard errors is noise.
NOISE = 2.0
#: A prominence of this many standard errors is a valley that chance does not make, although it is
#: the largest of many.
VALLEY = 4.0
#: Without such a valley, one cluster is chosen if no other K has a higher score than this. Rows of
#: one Gaussian, a uniform distribution, a curved Gaussian or Student's t seldom have more.
SCORE_OF_ONE = 0.85

#: Why a number was chosen.
Reason = Literal["agreement", "one cluster", "few rows", "classes", "clusters", "given"]


@dataclass(frozen=True)
class Number:
    """The number of components of a fit, and how it was chosen.

    Attributes
    ----------
    chosen : int
        K.
    reason : str
        "agreement": K has the highest score. "one cluster": there is no valley in the density, and
        no K of two or more has a higher score than rows without clusters have. "few rows": there
        are too few rows to search. "classes": the number of classes of the labels, which leaves
        nothing to search. "clusters": the number of the clusters that were given. "given": the
        user's own number.
    candidates : tuple of int
        Every K of the search, from 2; empty if nothing was searched. The next three have an entry
        for each.
    agreement : tuple of float
        Mean adjusted Rand index of the start that agrees most with the others.
    prominence : tuple of float
        The agreement minus the mean of the agreements at K - 1 and K + 1, or minus the one of
        these that there is.
    separation : tuple of float
        How clearly K peaks of the density stand out: the logarithm of the ratio of the smallest
        prominence of K - 1 peaks (all but the highest) to the next smaller one. Prominences below
        two standard errors count as two standard errors.
    valley : float
        The largest prominence of a peak that is not the highest: the depth of the valley between
        the two, in nats. NaN if nothing was searched.
    valley_error : float
        The standard error of a difference of two log densities, in nats.
    """

    chosen: int
    reason: Reason = "given"
    candidates: tuple[int, ...] = ()
    agreement: tuple[float, ...] = ()
    prominence: tuple[float, ...] = ()
    separation: tuple[float, ...] = ()
    valley: float = math.nan
    valley_error: float = STANDARD_ERROR

    @property
    def score(self) -> tuple[float, ...]:
        """The sum of agreement, half its prominence, and separation of each candidate."""
        parts = zip(self.agreement, self.prominence, self.separation, strict=True)
        return tuple(agreement + above / 2 + apart for agreement, above, apart in parts)

    def __str__(self) -> str:
        """The choice in one sentence."""
        k = f"{self.chosen} component{'s' if self.chosen > 1 else ''}"
        if self.reason == "agreement":
            i = self.candidates.index(self.chosen)
            return (
                f"K = {self.chosen} was chosen from {self.candidates[0]} to {self.candidates[-1]}: "
                f"the starts agree with a mean adjusted Rand index of {self.agreement[i]:.2f}, "
                f"which is {abs(self.prominence[i]):.2f} "
                f"{'above' if self.prominence[i] >= 0 else 'below'} its neighbours."
            )
        if self.reason == "one cluster":
            return (
                "K = 1 was chosen: the deepest valley of the density, of "
                f"{self.valley:.1f} nats with a standard error of {self.valley_error:.1f}, may be "
                f"chance, and the starts do not agree with any K from {self.candidates[0]} to "
                f"{self.candidates[-1]}."
            )
        return {
            "few rows": f"There are too few rows to find a number of clusters, so that it is {k}.",
            "classes": f"There are {k}, one for each class of the labels.",
            "clusters": f"There are {k}, one for each of the clusters that were given.",
            "given": f"The number of components was given: {self.chosen}.",
        }[self.reason]


def number_of_clusters(
    rows: Rows[NDArray[Any]], at_least: int, at_most: int, seed: int
) -> tuple[Number, Sample]:
    """Choose the number of clusters by the agreement of several starts.

    For each K the candidates of ``init="auto"`` cluster the rows. The score of K is the sum of
    their agreement, half its prominence, and the separation of K peaks of the density, which
    `Number` describes. K is that of the highest score. It is 1 if this score is at most 0.85 and no
    valley of the density is deeper than four standard errors.

    The search starts at 2. It ends at `at_most`, or before at the larger of 12 and 1.25 times the
    number of peaks of the density. Of more than 5,000 rows a sample is searched.

    The candidates run in ``joblib.Parallel``, with the backend and the number of jobs of
    ``joblib.parallel_config``. The result does not depend on them.

    Parameters
    ----------
    rows : Rows
        Arrays, in standardised units.
    at_least : int
        The smallest K, such as the number of classes of the labels.
    at_most : int
        The largest K of the search.
    seed : int

    Returns
    -------
    number : Number
    sample : Sample
        The rows of the search. It keeps the clusters of all candidates for every K.

    Notes
    -----
    Agreement: that of `vmonf.start.agreement`. Prominence of peaks: Chazal, Guibas, Oudot &
    Skraba, "Persistence-based clustering in Riemannian manifolds" (2011), section 2, who choose
    the number of clusters by a gap in the prominences. The sum is ours.
    """
    chosen = drawn(rows.component, MAX_ROWS, np.random.default_rng(seed))
    sample = sample_of(rows.x[chosen], rows.weight[chosen], seed)
    bound = min(at_most, len(sample.x) // FEWEST_ROWS_A_CLUSTER)
    if at_least >= at_most or bound < max(2, at_least):
        return Number(at_least, "classes" if at_least > 1 else "few rows"), sample
    with threadpool_limits(1):  # as in the workers, so that the numbers are the same
        peaks = peak_prominences(sample)
        n_peaks = 1 + int(np.sum(peaks > NOISE * STANDARD_ERROR))
        bound = min(bound, max(SEARCHED_AT_LEAST, at_least, math.ceil(BEYOND_PEAKS * n_peaks)))
        candidates = range(2, bound + 1)
        _cluster_all(sample, candidates, seed)
        agreement = _agreement_of_each(sample, candidates, seed)
    number = Number(
        at_least,
        "one cluster",
        tuple(candidates),
        _numbers(agreement),
        _numbers(_above_neighbours(agreement)),
        _numbers(_separations(peaks, candidates)),
        float(peaks[0]),
    )
    score = np.array(number.score)
    is_one = number.valley <= VALLEY * STANDARD_ERROR and score.max() <= SCORE_OF_ONE
    if at_least > 1 or not is_one:
        allowed = np.where(np.array(candidates) >= at_least, score, -np.inf)
        best = candidates[int(allowed.argmax())]
        number = replace(number, chosen=best, reason="agreement")
    return number, sample


def peak_prominences(sample: Sample) -> Array:
    """Prominences of the peaks of the density, in nats, largest first: shape (n - 1,).

    That of the highest peak is left out, since it is infinite. See `vmonf.start.peaks`.
    """
    _, prominence = sample.once(prominences)
    nats: Array = np.sort(prominence)[::-1] * sample.x.shape[1]
    return nats


def _cluster_all(sample: Sample, candidates: range, seed: int) -> None:
    """Compute the clusters of all candidates for every K, which the sample then keeps."""
    # What several K share is computed here, and goes to the workers with the sample.
    for name in ("peaks", "tree"):
        clusters_of_sample(CANDIDATES[name], sample, 2, seed)
    for k in candidates:
        eigenvectors_for(sample, k)
    parallel = Parallel()
    mixtures = parallel(delayed(_mixture)(sample, k, seed) for k in candidates)
    for k, mixture in zip(candidates, mixtures, strict=True):
        sample.keep(mixture, mixture_of, k, kmeans, seed)
    found = parallel(delayed(_clusters)(sample, k, seed) for k in candidates)
    for k, clusters in zip(candidates, found, strict=True):
        for method, cluster in zip(CANDIDATES.values(), clusters, strict=True):
            sample.keep(cluster, filled_clusters, method, k, seed)


def _mixture(sample: Sample, n_components: int, seed: int) -> GaussianStart:
    with threadpool_limits(1):
        return sample.once(mixture_of, n_components, kmeans, seed)


def _clusters(sample: Sample, n_components: int, seed: int) -> list[IntArray]:
    """The clusters of each candidate."""
    with threadpool_limits(1):
        return [
            clusters_of_sample(method, sample, n_components, seed) for method in CANDIDATES.values()
        ]


def _agreement_of_each(sample: Sample, candidates: range, seed: int) -> Array:
    """The agreement at each K: that of the start which agrees most with the others."""
    best = []
    for k in candidates:
        clusters = _clusters(sample, k, seed)
        table = agreements(clusters, sample, np.random.default_rng(seed))
        best.append((table.sum(axis=1) - 1).max() / (len(clusters) - 1))
    return np.array(best)


def _numbers(values: Array) -> tuple[float, ...]:
    return tuple(map(float, values))


def _above_neighbours(values: Array) -> Array:
    """Each value minus the mean of the values beside it."""
    if len(values) == 1:
        return np.zeros(1)
    beside = np.array([values[1], *(values[2:] + values[:-2]) / 2, values[-2]])
    above: Array = values - beside
    return above


def _separations(peaks: Array, candidates: range) -> Array:
    """The logarithm of the ratio of the prominences K - 1 and K, for each K."""
    padded = np.zeros(max(len(peaks), candidates[-1]) + 1)
    padded[: len(peaks)] = peaks
    raised = np.log(np.maximum(padded, NOISE * STANDARD_ERROR))
    k = np.array(candidates)
    difference: Array = raised[k - 2] - raised[k - 1]
    return difference
