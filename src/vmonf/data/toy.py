"""Toy data whose true density is known: a fit can be judged against the truth.

Each distribution is a uniform mixture of components that draws rows with their labels and
evaluates its own density exactly. All densities are natural logarithms (nats) per row.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntegerArray = NDArray[np.int64]

# Rows are handled in groups of about this many numbers an array: a few megabytes each.
_NUMBERS_PER_GROUP = 2**17

# Beyond so many turns of the spiral on one circle, the preimages are averaged, not listed.
_MOST_TURNS = 128.0

# Nodes of the tanh-sinh rule on [0, 1]: dense near both ends, where the integrand peaks.
_RULE_STEPS = np.linspace(-4.0, 4.0, 321)
_RULE_NODES = 1.0 / (1.0 + np.exp(-np.pi * np.sinh(_RULE_STEPS)))
_RULE_LOG_WEIGHTS = (
    math.log(_RULE_STEPS[1] - _RULE_STEPS[0])
    + np.log(np.pi * np.cosh(_RULE_STEPS))
    + np.log(_RULE_NODES)
    - np.logaddexp(0.0, np.pi * np.sinh(_RULE_STEPS))
)


class ToyMixture(ABC):
    """A uniform mixture of K components in the plane that knows its own density."""

    @property
    @abstractmethod
    def n_components(self) -> int:
        """The number of components, K."""

    @abstractmethod
    def _draw(self, labels: IntegerArray, generator: np.random.Generator) -> FloatArray:
        """Draw one row from the component that each label names: (n,) to (n, 2)."""

    @abstractmethod
    def _component_log_prob(self, X: FloatArray) -> FloatArray:
        """Log density of checked rows under each component: (n, 2) to (n, K)."""

    def sample(
        self, n_per_component: int, random_state: int | np.random.Generator | None = None
    ) -> tuple[FloatArray, IntegerArray]:
        """Draw the same number of rows from every component, in shuffled order.

        Parameters
        ----------
        n_per_component : int
            Rows to draw from each of the K components.
        random_state : int, numpy.random.Generator or None
            The seed, or the generator to draw from. ``None`` draws anew each time.

        Returns
        -------
        X : ndarray of shape (n, 2), float64
            The rows, where n = K * n_per_component.
        labels : ndarray of shape (n,), int64
            The component, 0..K-1, that each row was drawn from.

        Raises
        ------
        ValueError
            If ``n_per_component`` is less than one.
        """
        count = operator.index(n_per_component)
        if count < 1:
            raise ValueError(f"n_per_component must be at least 1, not {count}.")
        generator = np.random.default_rng(random_state)
        labels = np.repeat(np.arange(self.n_components, dtype=np.int64), count)
        labels = generator.permutation(labels)
        return self._draw(labels, generator), labels

    def component_log_prob(self, X: ArrayLike) -> FloatArray:
        """Log density of each row under each component, in nats.

        Parameters
        ----------
        X : array-like of shape (n, 2)
            The rows.

        Returns
        -------
        ndarray of shape (n, K), float64
            ``log p(x given c)``, without the mixing weights.

        Raises
        ------
        ValueError
            If X is not of shape (n, 2), or holds a value that is not finite.
        """
        return self._component_log_prob(_checked_rows(X))

    def log_prob(self, X: ArrayLike) -> FloatArray:
        """Log density of each row under the uniform mixture, in nats.

        Parameters
        ----------
        X : array-like of shape (n, 2)
            The rows.

        Returns
        -------
        ndarray of shape (n,), float64
            ``log p(x)``, where p(x) is the mean of p(x given c) over the K components.

        Raises
        ------
        ValueError
            If X is not of shape (n, 2), or holds a value that is not finite.
        """
        joint = self.component_log_prob(X)
        return np.asarray(np.logaddexp.reduce(joint, axis=1)) - math.log(self.n_components)


@final
@dataclass(frozen=True)
class Pinwheel(ToyMixture):
    r"""Gaussian arms, twisted into a pinwheel.

    A row of component k starts as features :math:`r \sim N(1, \sigma_r^2)` and
    :math:`t \sim N(0, \sigma_t^2)`. They are rotated by an angle that grows with r,

    .. math::
        a = 2 \pi k / K + \lambda e^r, \qquad
        x = (r \cos a + t \sin a,\; -r \sin a + t \cos a).

    A rotation keeps the radius, so that the Jacobian determinant of the map is
    :math:`1 + \lambda e^r t`. The map is not one to one: the density of x is the sum of
    :math:`p(r, t) / |1 + \lambda e^r t|` over every (r, t) that is carried to x.

    Parameters
    ----------
    n_wings : int
        The number of components, K.
    radial_std, tangential_std : float
        The standard deviations of r and t, in units of the distance of a wing's centre from
        the origin, which is one. (The authors multiply the rows by ten; we do not.)
    rate : float
        How strongly the wings are twisted: :math:`\lambda`, at least zero.

    Raises
    ------
    ValueError
        If ``n_wings`` is less than one, a standard deviation is not positive and finite, or
        ``rate`` is negative or not finite.

    Notes
    -----
    Where the twist is so strong that the map folds over (:math:`1 + \lambda e^r t = 0`), the
    density has a pole, which is integrable; at its exact place a large finite number is
    returned. On a circle around the origin that the spiral crosses more than 128 times (at the
    defaults a radius above 8, where the log density is below -260), the preimages are not
    listed: their sum is replaced by its mean over the angle.

    References
    ----------
    Johnson, Duvenaud, Wiltschko, Datta and Adams (2016), "Composing graphical models with
    neural networks for structured representations and fast inference",
    https://arxiv.org/abs/1603.06277, gave the generator. Pires and Figueiredo
    (2020), "Variational mixture of normalizing flows", https://arxiv.org/abs/2009.00585, use
    it as a benchmark. The density is ours.

    Examples
    --------
    >>> pinwheel = Pinwheel()
    >>> X, labels = pinwheel.sample(100, random_state=0)
    >>> X.shape, labels.shape
    ((500, 2), (500,))
    >>> bool(pinwheel.log_prob(X).mean() > -2.0)
    True
    """

    n_wings: int = 5
    radial_std: float = 0.3
    tangential_std: float = 0.05
    rate: float = 0.25

    def __post_init__(self) -> None:
        if operator.index(self.n_wings) < 1:
            raise ValueError(f"n_wings must be at least 1, not {self.n_wings}.")
        _check_positive("radial_std", self.radial_std)
        _check_positive("tangential_std", self.tangential_std)
        if not (self.rate >= 0.0 and math.isfinite(self.rate)):
            raise ValueError(f"rate must be at least zero and finite, not {self.rate}.")

    @property
    def n_components(self) -> int:
        """The number of wings, K."""
        return int(self.n_wings)

    def _draw(self, labels: IntegerArray, generator: np.random.Generator) -> FloatArray:
        features = generator.standard_normal((len(labels), 2))
        radial = 1.0 + self.radial_std * features[:, 0]
        tangential = self.tangential_std * features[:, 1]
        angle = 2.0 * np.pi / self.n_components * labels + self.rate * np.exp(radial)
        cosine, sine = np.cos(angle), np.sin(angle)
        return np.stack(
            [radial * cosine + tangential * sine, -radial * sine + tangential * cosine], axis=1
        )

    def _component_log_prob(self, X: FloatArray) -> FloatArray:
        radius = _radius(X)
        result = np.empty((len(X), self.n_components))
        # The logarithm is compared, because exp(radius) overflows for rows far away.
        listed = self._log_rate + radius <= math.log(2.0 * np.pi * _MOST_TURNS)

        rows = np.flatnonzero(listed)
        preimages = self.n_components * (3.0 + self._twist(radius[rows]) / np.pi)
        for group in _groups(rows, preimages):
            polar_angle = np.arctan2(X[group, 1], X[group, 0])
            result[group] = self._sum_over_preimages(radius[group], polar_angle)

        rows = np.flatnonzero(~listed)
        for group in _groups(rows, np.full(len(rows), 2.0 * len(_RULE_NODES))):
            result[group] = self._mean_over_angle(radius[group])[:, None]
        return result

    @property
    def _log_rate(self) -> float:
        return math.log(self.rate) if self.rate > 0.0 else -math.inf

    def _twist(self, radial: FloatArray) -> FloatArray:
        """Return the angle rate * exp(r), even where exp(r) alone would overflow."""
        return np.exp(self._log_rate + radial)

    def _feature_log_prob(self, radius: FloatArray, angle: FloatArray) -> FloatArray:
        """Log density of (r, t) = radius * (cos angle, sin angle), before the twist."""
        # Far beyond 1e150 a square overflows: then the logarithm itself is -inf, rightly.
        with np.errstate(over="ignore"):
            quadratic = ((radius * np.cos(angle) - 1.0) / self.radial_std) ** 2
            quadratic += (radius * np.sin(angle) / self.tangential_std) ** 2
        return -0.5 * quadratic - math.log(2.0 * np.pi * self.radial_std * self.tangential_std)

    def _sum_over_preimages(self, radius: FloatArray, polar_angle: FloatArray) -> FloatArray:
        """Log density under each wing, from all preimages: (n,), (n,) to (n, K).

        A preimage has the row's own radius, so that only its angle ``phi`` is sought. It is
        carried to the angle ``twisted(phi) - 2 pi k / K`` with
        ``twisted(phi) = phi - rate exp(radius cos phi)``. So each preimage under any wing is a
        root of ``twisted(phi) = polar_angle + 2 pi m / K`` for one whole number m, and its wing
        is m modulo K. ``twisted`` falls between at most two turning points and rises elsewhere:
        on each of these three pieces every m within the piece's range has exactly one root, so
        that none is missed, without any grid.
        """
        wings = self.n_components
        spacing = 2.0 * np.pi / wings
        count = len(radius)

        near, far = self._turning_points(radius)
        edges = np.stack([np.full(count, -np.pi), -far, -near, np.full(count, np.pi)])
        heights = edges - self._twist(radius * np.cos(edges))
        # Where there is no fall the two may differ by rounding, which would lose a root.
        heights[1] = np.maximum(heights[1], heights[2])
        first = np.ceil((heights - polar_angle) / spacing).astype(np.int64)
        # One round adds exactly one turn: so a root on the seam is counted once.
        first[3] = first[0] + wings

        row_parts, multiple_parts, lower_parts, upper_parts, rising_parts = [], [], [], [], []
        for piece, rising in ((0, True), (1, False), (2, True)):
            start, stop = (piece, piece + 1) if rising else (piece + 1, piece)
            rows, offsets = _ragged(first[stop] - first[start])
            row_parts.append(rows)
            multiple_parts.append(first[start][rows] + offsets)
            lower_parts.append(edges[piece][rows])
            upper_parts.append(edges[piece + 1][rows])
            rising_parts.append(np.full(len(rows), rising))
        row = np.concatenate(row_parts)
        multiple = np.concatenate(multiple_parts)
        root_radius = radius[row]
        target = polar_angle[row] + spacing * multiple

        def excess(angle: FloatArray, which: IntegerArray) -> tuple[FloatArray, FloatArray]:
            twist = self._twist(root_radius[which] * np.cos(angle))
            slope = 1.0 + twist * root_radius[which] * np.sin(angle)
            return angle - twist - target[which], slope

        angle = _solve_in_brackets(
            excess,
            np.concatenate(lower_parts),
            np.concatenate(upper_parts),
            np.concatenate(rising_parts),
        )
        _, slope = excess(angle, np.arange(len(angle)))
        # A slope below its own rounding error cannot be told from zero, the pole itself.
        log_stretch = np.log(np.maximum(np.abs(slope), np.finfo(np.float64).eps))
        terms = self._feature_log_prob(root_radius, angle) - log_stretch
        cell = row * wings + multiple % wings
        return _log_sum_by_cell(terms, cell, count * wings).reshape(count, wings)

    def _turning_points(self, radius: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Angles u1 <= u2 within (0, pi) so that the twisted angle falls from -u2 to -u1.

        The fall is where ``rate * radius * sin(u) * exp(radius * cos(u)) > 1``. The left side
        has a single peak, at ``cos(u) = radius * sin(u)^2``. Where the peak stays below one
        there is no fall, and both angles are the peak's.
        """
        peak = np.arccos(2.0 * radius / (1.0 + np.hypot(1.0, 2.0 * radius)))
        near, far = peak.copy(), peak.copy()
        height = self._twist(radius * np.cos(peak)) * radius * np.sin(peak)
        falls = np.flatnonzero(height > 1.0)
        if falls.size == 0:
            return near, far
        fall_radius, fall_peak = radius[falls], peak[falls]
        log_factor = self._log_rate + np.log(fall_radius)

        def log_height(angle: FloatArray, which: IntegerArray) -> tuple[FloatArray, FloatArray]:
            sine, cosine = np.sin(angle), np.cos(angle)
            value = log_factor[which] + fall_radius[which] * cosine + np.log(sine)
            return value, cosine / sine - fall_radius[which] * sine

        zeros = np.zeros(len(falls))
        rising = np.ones(len(falls), dtype=np.bool_)
        near[falls] = _solve_in_brackets(log_height, zeros, fall_peak, rising)
        far[falls] = _solve_in_brackets(log_height, fall_peak, zeros + np.pi, ~rising)
        return near, far

    def _mean_over_angle(self, radius: FloatArray) -> FloatArray:
        """Log density for rows whose preimages are too many to list: (n,) to (n,).

        The twist is so fast that it spreads the features' density evenly over the circle: the
        answer is the same for every wing and polar angle, ``1 / (2 pi)`` times the integral of
        p(r, t) over the circle.
        """
        # By symmetry half the circle is enough. It is split where the integrand may peak.
        split = np.full(len(radius), 0.5 * np.pi)
        if self.tangential_std > self.radial_std:
            shape = 1.0 - (self.radial_std / self.tangential_std) ** 2
            peak_cosine = 1.0 / (radius * shape)
            split = np.where(peak_cosine < 1.0, np.arccos(np.minimum(peak_cosine, 1.0)), split)
        parts = []
        for start, stop in ((np.zeros_like(split), split), (split, np.full_like(split, np.pi))):
            length = (stop - start)[:, None]
            terms = self._feature_log_prob(radius[:, None], start[:, None] + length * _RULE_NODES)
            parts.append(terms + np.log(length) + _RULE_LOG_WEIGHTS)
        integral = np.asarray(np.logaddexp.reduce(np.concatenate(parts, axis=1), axis=1))
        return integral - math.log(np.pi)


@final
@dataclass(frozen=True)
class TwoCircles(ToyMixture):
    r"""Two noisy circles around the origin.

    A row has an even angle and the radius :math:`R_c + s \varepsilon`, where
    :math:`\varepsilon` is standard normal. A negative radius is the positive one seen from the
    other side, so both preimages enter the density, which integrates to one for any noise:

    .. math::
        p(x \mid c) = \frac{N(\rho; R_c, s^2) + N(-\rho; R_c, s^2)}{2 \pi \rho},
        \qquad \rho = |x|.

    Component 0 is the outer circle, component 1 the inner one.

    Parameters
    ----------
    outer_radius, inner_radius : float
        The radii of the circles.
    noise_std : float
        The standard deviation of the radius, s.

    Raises
    ------
    ValueError
        If a parameter is not positive and finite, or the inner radius is not the smaller one.

    Notes
    -----
    At the origin itself the density has a pole, which is integrable; the value at the smallest
    normal number's distance is returned there.

    References
    ----------
    The layout follows ``sklearn.datasets.make_circles``, which adds its noise to both
    coordinates; here the noise is radial only, for which the density is closed. Pires and
    Figueiredo (2020), "Variational mixture of normalizing flows",
    https://arxiv.org/abs/2009.00585, use two circles to show what a few labels do.

    Examples
    --------
    >>> circles = TwoCircles()
    >>> X, labels = circles.sample(100, random_state=0)
    >>> circles.component_log_prob(X).shape
    (200, 2)
    """

    outer_radius: float = 0.8
    inner_radius: float = 0.4
    noise_std: float = 0.005

    def __post_init__(self) -> None:
        _check_positive("outer_radius", self.outer_radius)
        _check_positive("inner_radius", self.inner_radius)
        _check_positive("noise_std", self.noise_std)
        if self.inner_radius >= self.outer_radius:
            raise ValueError(
                f"inner_radius must be less than outer_radius, but {self.inner_radius} is not "
                f"less than {self.outer_radius}."
            )

    @property
    def n_components(self) -> int:
        """Two: the outer and the inner circle."""
        return 2

    def _draw(self, labels: IntegerArray, generator: np.random.Generator) -> FloatArray:
        radii = np.array([self.outer_radius, self.inner_radius])[labels]
        radii = radii + self.noise_std * generator.standard_normal(len(labels))
        angle = generator.uniform(0.0, 2.0 * np.pi, len(labels))
        return np.stack([radii * np.cos(angle), radii * np.sin(angle)], axis=1)

    def _component_log_prob(self, X: FloatArray) -> FloatArray:
        radius = np.maximum(_radius(X), np.finfo(np.float64).tiny)[:, None]
        centres = np.array([self.outer_radius, self.inner_radius])
        # Far beyond 1e150 a square overflows: then the logarithm itself is -inf, rightly.
        with np.errstate(over="ignore"):
            both_sides = np.logaddexp(
                -0.5 * ((radius - centres) / self.noise_std) ** 2,
                -0.5 * ((radius + centres) / self.noise_std) ** 2,
            )
        scale = math.log(self.noise_std) + 0.5 * math.log(2.0 * np.pi)
        return np.asarray(both_sides - scale - math.log(2.0 * np.pi) - np.log(radius))


def _check_positive(name: str, value: float) -> None:
    """Raise ValueError unless the value is positive and finite."""
    if not (value > 0.0 and math.isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, not {value}.")


def _checked_rows(X: ArrayLike) -> FloatArray:
    """Return X as float64 of shape (n, 2), or say what is wrong with it."""
    rows = np.asarray(X, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise ValueError(f"X must have the shape (n, 2), not {rows.shape}.")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise ValueError(
            f"X must be finite, but {bad.size} rows are not, the first of them row {bad[0]} "
            "(counted from 0)."
        )
    return rows


def _radius(X: FloatArray) -> FloatArray:
    """Distance of each row from the origin; capped, where it or its double would overflow."""
    with np.errstate(over="ignore"):
        return np.minimum(np.hypot(X[:, 0], X[:, 1]), 0.25 * np.finfo(np.float64).max)


def _groups(rows: IntegerArray, sizes: FloatArray) -> Iterator[IntegerArray]:
    """Cut the rows into groups whose sizes add up to about one group's worth of numbers."""
    if rows.size == 0:
        return
    group = np.floor(np.cumsum(sizes) / _NUMBERS_PER_GROUP)
    yield from np.split(rows, np.flatnonzero(np.diff(group)) + 1)


def _ragged(counts: IntegerArray) -> tuple[IntegerArray, IntegerArray]:
    """Row numbers, each repeated as often as counted, and 0, 1, ... within each row."""
    rows = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return rows, np.arange(len(rows)) - starts[rows]


def _log_sum_by_cell(terms: FloatArray, cell: IntegerArray, n_cells: int) -> FloatArray:
    """Log of the sum of exp(terms) within each cell: (m,) to (n_cells,)."""
    largest = np.full(n_cells, -np.inf)
    np.maximum.at(largest, cell, terms)
    # A cell whose terms are all -inf must not become -inf minus -inf.
    shift = np.where(np.isfinite(largest), largest, 0.0)
    total = np.bincount(cell, weights=np.exp(terms - shift[cell]), minlength=n_cells)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(total) + shift)


def _solve_in_brackets(
    function: Callable[[FloatArray, IntegerArray], tuple[FloatArray, FloatArray]],
    lower: FloatArray,
    upper: FloatArray,
    rising: NDArray[np.bool_],
) -> FloatArray:
    """Find the root of many monotone functions at once: Newton's method within brackets.

    A Newton step is taken only if it stays in the bracket and is less than half the step
    before; otherwise the bracket is halved. So it always ends, soon where Newton's method
    works. Roots are of order one and found to about 1e-15.

    Parameters
    ----------
    function : callable
        From the points and the indices of the roots still sought to the values and slopes.
    lower, upper : ndarray of shape (m,)
        The ends of the brackets. The functions are never evaluated there.
    rising : ndarray of shape (m,), bool
        Whether each function rises or falls through its root.

    Returns
    -------
    ndarray of shape (m,)
    """
    lower, upper = lower.copy(), upper.copy()
    point = 0.5 * (lower + upper)
    last_step = upper - lower
    active = np.arange(len(point))
    for _ in range(200):
        if active.size == 0:
            break
        here = point[active]
        value, slope = function(here, active)
        root_above = (value < 0.0) == rising[active]
        low = np.where(root_above, here, lower[active])
        high = np.where(root_above, upper[active], here)
        # A slope of zero gives no usable step, and is caught by the comparisons.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            newton = here - value / slope
            usable = (newton >= low) & (newton <= high)
            usable &= np.abs(newton - here) < 0.5 * last_step[active]
        there = np.where(usable, newton, 0.5 * (low + high))
        step = np.abs(there - here)
        point[active], last_step[active] = there, step
        lower[active], upper[active] = low, high
        # Newton's steps square the error, so that after one this small nothing is left.
        done = (usable & (step <= 1e-13)) | (high - low <= 4e-16)
        active = active[~done]
    return point
