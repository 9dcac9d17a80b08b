"""The number of clusters at which several starts agree.

With the wrong number of clusters, each method divides or joins clusters in its own way, and does so
differently in different rows. With the right one, methods that find the clusters find the same. So
the candidates of `init="auto"` cluster the rows with each K, and K is chosen by what their clusters
share and do not share, and by how clearly K peaks of the density stand out: a small cluster adds
little information, but may be a clear peak.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from joblib import Parallel, delayed

from vmonf.machine import one_blas_thread
from vmonf.metrics import adjusted_rand_index, information
from vmonf.rows import Rows
from vmonf.start.comparison import (
    CANDIDATES,
    Found,
    between_parts,
    candidates_for,
    clusters_of_candidates,
    found_in_parts,
    whole_and_parts,
)
from vmonf.start.gaussian_mixture import GaussianStart
from vmonf.start.graph import eigenvectors_for
from vmonf.start.merged import mixture_of
from vmonf.start.metric import AGREED, LEAST_WITHIN, within_clusters
from vmonf.start.peaks import prominences
from vmonf.start.sample import (
    NEIGHBOURS,
    Sample,
    clusters_of_sample,
    drawn,
    filled_clusters,
    sample_of,
)
from vmonf.start.starts import IN_METRIC, Metric, agreement_with_others

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
#: A prominence of less than this many standard errors is noise.
NOISE = 2.5
#: Valleys of the density are looked for at these scales: numbers of neighbours that give the
#: density. With few the density shows small clusters. With many it is less noisy, and shows a
#: shallow valley between large ones.
SCALES = (NEIGHBOURS, 20, 40, 80, 160)
#: A scale is at most this share of the rows.
LARGEST_SHARE = 1 / 8
#: A prominence of this many standard errors, times the logarithm of the number of rows, is a valley
#: that chance does not make. The largest of many noisy prominences grows with the logarithm of
#: their number. With two or more features it stayed below, at all scales, in nine of ten tables of
#: 100 to 5,000 rows of one Gaussian, uniform, Student-t or bent distribution, and in seven of ten
#: along an arc.
VALLEY = 0.5
#: The same for one feature, with which prominences of noise are larger: half of the tables of
#: uniform rows were above 0.5.
VALLEY_OF_ONE_FEATURE = 0.7
#: A nat that clusterings do not share counts as much as this many nats that they share.
PENALTY = 3.0
#: Without such a valley, one cluster is chosen if the starts agree less than this at the best K.
#: Rows of one Gaussian, a uniform distribution, or along a line or an arc seldom agree more.
LEAST_AGREEMENT_OF_SEVERAL = 0.8

#: The metric within clusters is looked for among those of K up to this.
MOST_IN_METRIC = 12
#: The K that is found in the metric within clusters is taken if its score is higher by more than
#: this, in nats.
LEAST_GAIN = 0.1

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
        "agreement": K has the highest score. "one cluster": there is no valley in the
        density, and the starts agree too little at the K of the highest score. "few rows":
        there are too few rows to search. "classes": the number of classes of the labels, which
        leaves nothing to search. "clusters": the number of the clusters that were given. "given":
        the user's own number.
    candidates : tuple of int
        Every K of the search, from 2 or the number of classes; empty if nothing was searched. The
        next three have an entry for each.
    agreement : tuple of float
        Mean adjusted Rand index with others of the start that agrees most with them. `start_` of a
        fit with this K can differ: it may use more rows, or another metric.
    information : tuple of float
        The mutual information of the clusters of several starts, minus three times their
        variation of information, in nats; that of the start for which it is highest.
    separation : tuple of float
        How clearly K peaks of the density stand out: the logarithm of the ratio of the smallest
        prominence of K - 1 peaks (all but the highest) to the next smaller one. Prominences below
        2.5 standard errors count as 2.5 standard errors.
    valley : float
        The largest prominence of a peak that is not the highest: the depth of the valley between
        the two, in nats. NaN if nothing was searched. It is that of the density of 10, 20, 40, 80
        or 160 neighbours for which it has the most standard errors.
    valley_error : float
        Its standard error: that of a difference of two log densities, in nats.
    metric : str
        "within clusters" if the search was repeated in the metric of the deviations within
        clusters, and found several with a higher score there; otherwise "columns".
    """

    chosen: int
    reason: Reason = "given"
    candidates: tuple[int, ...] = ()
    agreement: tuple[float, ...] = ()
    information: tuple[float, ...] = ()
    separation: tuple[float, ...] = ()
    valley: float = math.nan
    valley_error: float = math.nan
    metric: Metric = "columns"

    @property
    def score(self) -> tuple[float, ...]:
        """The sum of information and half the separation of each candidate."""
        return tuple(map(score_of, self.information, self.separation))

    @property
    def best_candidate(self) -> int:
        """The K of the highest score."""
        return self.candidates[int(np.argmax(self.score))]

    def __str__(self) -> str:
        """The choice in one sentence."""
        k = f"{self.chosen} component{'s' if self.chosen > 1 else ''}"
        if self.reason == "agreement":
            i = self.candidates.index(self.chosen)
            return (
                f"K = {self.chosen} was chosen from {self.candidates[0]} to {self.candidates[-1]}, "
                f"with a score of {self.score[i]:.2f}; the starts agree with a mean adjusted Rand "
                f"index of {self.agreement[i]:.2f}{IN_METRIC[self.metric]}."
            )
        if self.reason == "one cluster":
            i = self.candidates.index(self.best_candidate)
            return (
                "K = 1 was chosen: the deepest valley of the density, of "
                f"{self.valley:.1f} nats with a standard error of {self.valley_error:.1f}, may be "
                f"chance, and on {self.best_candidate} clusters, the best number above one, the "
                f"starts agree only with a mean adjusted Rand index of {self.agreement[i]:.2f}."
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

    For each K the candidates of ``init="auto"`` cluster the rows and two random parts of them. The
    score of K is the sum of the information that their clusters share, with a penalty for what
    they do not share, and of half the separation of K peaks of the density; see `Number`. K is
    that of the highest score. But it is 1 if the starts agree less than 0.8 at this K, and no
    valley of the density is deeper than half the logarithm of the number of rows, in standard
    errors.

    If the starts agree less than 0.85 at the best K, the search is repeated in the metric of the
    deviations within clusters; see `vmonf.start.metric`. It is the metric within the clusters of
    the K, up to 12, that has the highest score there; methods must agree on all rows by 0.6. The
    second search is taken if its score is higher by 0.1 nats. But if the first says that K is 1,
    the second must find a valley, since wrong clusters, too, are found again in a metric that is
    made from them.

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
    Agreement: that of `vmonf.start.agreement`. Information: Meila, "Comparing clusterings: an
    information based distance" (2007), section 3. Prominence of peaks: Chazal, Guibas, Oudot &
    Skraba, "Persistence-based clustering in Riemannian manifolds" (2011), section 2, who choose
    the number of clusters by a gap in the prominences. The sum is ours.
    """
    chosen = drawn(rows.component, MAX_ROWS, np.random.default_rng(seed))
    sample = sample_of(rows.x[chosen], rows.weight[chosen], seed)
    bound = min(at_most, len(sample.x) // FEWEST_ROWS_A_CLUSTER)
    if at_least >= at_most or bound < max(2, at_least):
        reason: Reason = "classes" if at_least > 1 else "given" if at_most == 1 else "few rows"
        return Number(at_least, reason), sample
    number = _searched(sample, "columns", at_least, bound, seed)
    first = number.best_candidate
    if number.agreement[number.candidates.index(first)] < AGREED and sample.x.shape[1] > 1:
        moved = _in_best_metric(sample, number.candidates, seed)
        if moved is not None:
            fewest = at_least if number.chosen == 1 else max(2, at_least)
            again = _searched(moved, "within clusters", fewest, bound, seed)
            if again.chosen > 1 and max(again.score) > max(number.score) + LEAST_GAIN:
                number = again
    return number, sample


def _searched(sample: Sample, metric: Metric, at_least: int, bound: int, seed: int) -> Number:
    """The number of clusters of a sample, whose distances are of this metric."""
    with one_blas_thread():  # as in the workers, so that the numbers are the same
        peaks = peak_prominences(sample)
        n_peaks = 1 + int(np.sum(peaks > NOISE * standard_error(NEIGHBOURS)))
        bound = min(bound, max(SEARCHED_AT_LEAST, at_least, math.ceil(BEYOND_PEAKS * n_peaks)))
        candidates = range(max(2, at_least), bound + 1)
        _cluster_all(sample, candidates, seed)
        agreement, shared = _comparisons(sample, candidates, seed)
        valley, error = deepest_valley(sample)
    number = Number(
        at_least,
        "one cluster",
        tuple(candidates),
        _numbers(agreement),
        _numbers(shared),
        _numbers(_separations(peaks, candidates)),
        valley,
        error,
        metric,
    )
    i = candidates.index(number.best_candidate)
    n_rows, n_features = sample.x.shape
    deep = (VALLEY if n_features > 1 else VALLEY_OF_ONE_FEATURE) * math.log(n_rows) * error
    agree = metric == "columns" and agreement[i] >= LEAST_AGREEMENT_OF_SEVERAL
    is_one = valley <= deep and not agree
    if at_least > 1 or not is_one:
        number = replace(number, chosen=number.best_candidate, reason="agreement")
    return number


def _agreeing(sample: Sample, n_components: int, seed: int) -> IntArray:
    """The clusters of the candidate that agrees most with others: shape (n,)."""
    found = found_in_parts(sample, n_components, seed)
    return found[0].clusters[int(_votes(found, adjusted_rand_index, sample, n_components).argmax())]


def _votes(
    found: list[Found],
    measure: Callable[[IntArray, IntArray, Array], float],
    sample: Sample,
    n_components: int,
) -> Array:
    """How well each candidate agrees with others, in this measure: shape (C,)."""
    table = between_parts(found, measure, sample.weight)
    return agreement_with_others(table, tuple(candidates_for(n_components)))


def _in_best_metric(sample: Sample, candidates: tuple[int, ...], seed: int) -> Sample | None:
    """The sample in the metric within the clusters of the K that has the highest score there.

    None if the starts agree too little for every K.
    """
    searched = [k for k in candidates if k <= MOST_IN_METRIC]
    found: list[tuple[Sample | None, float]] = Parallel()(
        delayed(_in_metric_of)(sample, k, seed) for k in searched
    )
    return max(found, key=lambda each: each[1])[0]


def _in_metric_of(sample: Sample, n_components: int, seed: int) -> tuple[Sample | None, float]:
    """The sample in the metric within K clusters, and the score of K there.

    Methods that agree on all rows need not find the same in parts of them, so that this agreement
    does not tell which metric is best. Where it is low, there is no such sample, and no score.
    """
    with one_blas_thread():
        first = _agreeing(sample, n_components, seed)
        moved, agreement = within_clusters(sample, first, n_components, seed)
        if agreement < LEAST_WITHIN:
            return None, -math.inf
        found = found_in_parts(moved, n_components, seed)
        information = _votes(found, _penalised_information, moved, n_components).max()
        number = range(n_components, n_components + 1)
        separation = _separations(peak_prominences(moved), number)
    return moved, score_of(float(information), float(separation[0]))


def score_of(information: float, separation: float) -> float:
    """The score of a K; see `Number`."""
    return information + separation / 2


def standard_error(n_neighbours: int) -> float:
    """That of the difference of two log densities, in nats, each of so many neighbours.

    The volume that holds k neighbours has a gamma distribution, and the variance of its logarithm
    is about 1 / k.
    """
    return math.sqrt(2 / n_neighbours)


def peak_prominences(sample: Sample, n_neighbours: int = NEIGHBOURS) -> Array:
    """Prominences of the peaks of the density, in nats, largest first: shape (n - 1,).

    That of the highest peak is left out, since it is infinite. See `vmonf.start.peaks`.
    """
    _, prominence = sample.once(prominences, n_neighbours)
    nats: Array = np.sort(prominence)[::-1] * sample.x.shape[1]
    return nats


def deepest_valley(sample: Sample) -> tuple[float, float]:
    """The largest prominence, in nats, and its standard error, at the scale where it is clearest.

    A cluster with far fewer rows than neighbours at a scale has no peak there.
    """
    largest = max(NEIGHBOURS, int(LARGEST_SHARE * len(sample.x)))
    valleys = [
        (float(peak_prominences(sample, scale)[0]), standard_error(scale))
        for scale in sorted({min(scale, largest) for scale in SCALES})
    ]
    return max(valleys, key=lambda each: each[0] / each[1])


def _cluster_all(sample: Sample, candidates: range, seed: int) -> None:
    """Compute the clusters of all candidates for every K, which the samples then keep."""
    samples = [part for _, part in whole_and_parts(sample, seed)]
    # What several K share is computed here, and goes to the workers with the sample.
    for part in samples:
        for name in ("peaks", "tree"):
            clusters_of_sample(CANDIDATES[name], part, 2, seed)
        for k in candidates:
            if "graph" in candidates_for(k):
                eigenvectors_for(part, k)
    tasks = list(product(samples, candidates))
    parallel = Parallel()
    mixtures = parallel(delayed(_mixture)(part, k, seed) for part, k in tasks)
    for (part, k), mixture in zip(tasks, mixtures, strict=True):
        part.keep(mixture, mixture_of, k, seed)
    found = parallel(delayed(_clusters)(part, k, seed) for part, k in tasks)
    for (part, k), clusters in zip(tasks, found, strict=True):
        for method, cluster in zip(candidates_for(k).values(), clusters, strict=True):
            part.keep(cluster, filled_clusters, method, k, seed)


def _mixture(sample: Sample, n_components: int, seed: int) -> GaussianStart:
    with one_blas_thread():
        return sample.once(mixture_of, n_components, seed)


def _clusters(sample: Sample, n_components: int, seed: int) -> list[IntArray]:
    """The clusters of each candidate."""
    with one_blas_thread():
        return clusters_of_candidates(sample, n_components, seed)


def _comparisons(sample: Sample, candidates: range, seed: int) -> tuple[Array, Array]:
    """Agreement and information at each K, each of the candidate for which it is highest."""
    agreement, shared = np.zeros((2, len(candidates)))
    for i, k in enumerate(candidates):
        found = found_in_parts(sample, k, seed)
        for measure, best in ((adjusted_rand_index, agreement), (_penalised_information, shared)):
            best[i] = _votes(found, measure, sample, k).max()
    return agreement, shared


def _penalised_information(first: IntArray, second: IntArray, weight: Array) -> float:
    mutual, variation = information(first, second, weight)
    return mutual - PENALTY * variation


def _numbers(values: Array) -> tuple[float, ...]:
    return tuple(map(float, values))


def _separations(peaks: Array, candidates: range) -> Array:
    """The logarithm of the ratio of the prominences K - 1 and K, for each K."""
    padded = np.zeros(max(len(peaks), candidates[-1]) + 1)
    padded[: len(peaks)] = peaks
    raised = np.log(np.maximum(padded, NOISE * standard_error(NEIGHBOURS)))
    k = np.array(candidates)
    difference: Array = raised[k - 2] - raised[k - 1]
    return difference
