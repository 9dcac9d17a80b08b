"""Toy data whose true density is known, so that a fit can be compared with it.

Each distribution is a uniform mixture of components. It draws rows with their labels and
evaluates its own density exactly. All densities are natural logarithms (nats) per row.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntegerArray = NDArray[np.int64]


class ToyMixture(ABC):
    """A uniform mixture of K components in the plane whose density is known exactly."""

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
            The seed, or the generator to draw from. ``None`` gives different rows each time.

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
    :math:`t \sim N(0, \sigma_t^2)`. They are rotated by an angle that grows with their radius
    :math:`\rho = \sqrt{r^2 + t^2}`,

    .. math::
        a_k(\rho) = 2 \pi k / K + \lambda e^\rho, \qquad
        x = (r \cos a + t \sin a,\; -r \sin a + t \cos a).

    A rotation keeps the radius, so that :math:`\rho = |x|` and the map is one to one. A rotation
    by an angle that depends on the radius alone also preserves area: the Jacobian determinant
    is one. Hence, with (r, t) the row x rotated back by :math:`a_k(|x|)`,

    .. math::
        p(x \mid k) = N(r; 1, \sigma_r^2) \, N(t; 0, \sigma_t^2).

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
    The usual generator twists by :math:`\lambda e^r`, with the first feature in place of the
    radius. Its map is not one to one, and its density has no closed form. Twisting by the
    radius makes the density exact and closed. The rows differ little, because
    :math:`\sigma_t` is small.

    The twist is taken as zero where :math:`\lambda e^\rho` overflows, at a radius of about 709.
    From a radius of about 37 on, double precision no longer determines the angle.

    References
    ----------
    Johnson, Duvenaud, Wiltschko, Datta and Adams (2016), "Composing graphical models with
    neural networks for structured representations and fast inference",
    https://arxiv.org/abs/1603.06277, introduced the generator. Pires and Figueiredo
    (2020), "Variational mixture of normalizing flows", https://arxiv.org/abs/2009.00585, use
    it as a benchmark. The twist by the radius and the density are ours.

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
        features = [1.0, 0.0] + features * [self.radial_std, self.tangential_std]
        return _rotated(features, -self._angle(features, labels))

    def _component_log_prob(self, X: FloatArray) -> FloatArray:
        labels = np.arange(self.n_components)
        angle = self._angle(X[:, None, :], labels)
        scale = np.array([self.radial_std, self.tangential_std])
        log_scale = math.log(2.0 * np.pi) + np.log(scale).sum()
        # Beyond about 1e150 the squares overflow, and the log density is -inf.
        with np.errstate(over="ignore"):
            features = _rotated(X[:, None, :], angle)
            squares = ((features - [1.0, 0.0]) / scale) ** 2
            return np.asarray(-0.5 * squares.sum(axis=-1) - log_scale)

    def _angle(self, rows: FloatArray, labels: IntegerArray) -> FloatArray:
        """Angle of rotation, which depends on a row's radius: (..., 2) and (...) to (...)."""
        # An infinite twist, or 0 * inf, becomes zero: see the class's notes.
        with np.errstate(over="ignore", invalid="ignore"):
            twist = self.rate * np.exp(_radius(rows))
        twist = np.where(np.isfinite(twist), twist, 0.0)
        return np.asarray(twist + 2.0 * np.pi / self.n_components * labels)


@final
@dataclass(frozen=True)
class TwoCircles(ToyMixture):
    r"""Two noisy circles around the origin.

    A row has a uniformly distributed angle and the radius :math:`R_c + s \varepsilon`, where
    :math:`\varepsilon` is standard normal. A negative radius equals a positive one at the
    opposite angle, so the density is a sum over both and integrates to one for any noise:

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
    At the origin the density has an integrable pole; there, the value at a radius of the
    smallest normal number is returned.

    References
    ----------
    The layout follows ``sklearn.datasets.make_circles``, which adds its noise to both
    coordinates; here the noise is only radial, so that the density has a closed form. Pires and
    Figueiredo (2020), "Variational mixture of normalizing flows",
    https://arxiv.org/abs/2009.00585, use two circles to show the effect of a few labels.

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
        # Beyond about 1e150 the squares overflow, and the log density is -inf.
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
    """Return X as float64 of shape (n, 2); raise ValueError if it is not valid."""
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
    """Distance of each row from the origin, capped so that twice it does not overflow."""
    with np.errstate(over="ignore"):
        return np.minimum(np.hypot(X[..., 0], X[..., 1]), 0.25 * np.finfo(np.float64).max)


def _rotated(X: FloatArray, angle: FloatArray) -> FloatArray:
    """Rotate rows counterclockwise: (..., 2) and (...) to (..., 2)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = X[..., 0], X[..., 1]
    return np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=-1)
