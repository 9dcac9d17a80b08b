"""Univariate bijections: pure functions of a value and its parameters.

A bijection does not know who computes its parameters: a coupling or an
autoregressive conditioner does. All-zero parameters give the identity.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

LOG_SLOPE_LIMIT = math.log(1e3)


def soft_clip(values: Tensor, limit: float) -> Tensor:
    """Squash to (-limit, limit): v / (1 + |v| / limit), which is the identity near 0.

    A slope can then neither vanish nor explode, whatever a network puts out.
    """
    return values / (1 + values.abs() / limit)


class Bijection(ABC):
    """An increasing map of the real line, applied to each feature with its own parameters."""

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """How many parameters one feature takes."""

    @abstractmethod
    def feature_of_parameter(self, n_features: int) -> Tensor:
        """Which feature each of the ``n_features * n_parameters`` parameters belongs to."""

    @abstractmethod
    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Map (..., D) values by (..., D * n_parameters) parameters.

        Returns the values and the log-derivatives, both (..., D).
        """

    @abstractmethod
    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `forward`; the log-derivatives are those of the inverse map."""


class Affine(Bijection):
    """z = x exp(s) + t, with s soft-clipped to +-log 1000.

    Source: Dinh et al., "Density estimation using Real NVP" (2017), equation 8.
    """

    n_parameters = 2

    def feature_of_parameter(self, n_features: int) -> Tensor:
        """Shifts of all features, then log-scales of all features."""
        return torch.arange(n_features).repeat(2)

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Z = x exp(s) + t; see `Bijection.forward`."""
        shift, raw_log_scale = parameters.chunk(2, dim=-1)
        log_scale = soft_clip(raw_log_scale, LOG_SLOPE_LIMIT)
        return torch.addcmul(shift, x, log_scale.exp()), log_scale

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """X = (z - t) exp(-s); see `Bijection.inverse`."""
        shift, raw_log_scale = parameters.chunk(2, dim=-1)
        log_scale = soft_clip(raw_log_scale, LOG_SLOPE_LIMIT)
        return (z - shift) * (-log_scale).exp(), -log_scale


class RationalQuadraticSpline(Bijection):
    """A monotone rational-quadratic spline on [-bound, bound], the identity outside.

    Source: Durkan et al., "Neural Spline Flows" (2019), equations 4 to 8. Bin widths and
    heights are a softmax with a floor, interior slopes an exponential; both are
    soft-clipped, so that no bin is thinner than float32 can divide by.
    """

    def __init__(self, n_bins: int = 8, bound: float = 5.0) -> None:
        self.n_bins = n_bins
        self.bound = bound

    @property
    def n_parameters(self) -> int:
        """Widths and heights of the bins, slopes at the interior knots."""
        return 3 * self.n_bins - 1

    def feature_of_parameter(self, n_features: int) -> Tensor:
        """All parameters of the first feature, then all of the second, ..."""
        return torch.arange(n_features).repeat_interleave(self.n_parameters)

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate the spline; see `Bijection.forward`."""
        knots_x, knots_z, slopes = self._knots(x, parameters)
        # Clamped first, so that no gradient passes through the spline's formula at a
        # point outside the box, where it may overflow.
        clamped = x.clamp(-self.bound, self.bound)
        left, width, bottom, height, slope_left, slope_right = _bin_of(
            clamped, knots_x, knots_x, knots_z, slopes
        )
        position = (clamped - left) / width
        mean_slope = height / width
        between = position * (1 - position)
        denominator = mean_slope + (slope_left + slope_right - 2 * mean_slope) * between
        z = bottom + height * (mean_slope * position**2 + slope_left * between) / denominator
        log_slope = _log_slope(position, between, mean_slope, slope_left, slope_right, denominator)
        inside = x.abs() < self.bound
        return torch.where(inside, z, x), torch.where(inside, log_slope, 0.0)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Solve the quadratic of the bin that z falls in; see `Bijection.inverse`."""
        knots_x, knots_z, slopes = self._knots(z, parameters)
        clamped = z.clamp(-self.bound, self.bound)
        left, width, bottom, height, slope_left, slope_right = _bin_of(
            clamped, knots_z, knots_x, knots_z, slopes
        )
        mean_slope = height / width
        rise = clamped - bottom
        bend = rise * (slope_left + slope_right - 2 * mean_slope)
        a = height * (mean_slope - slope_left) + bend
        b = height * slope_left - bend
        c = -mean_slope * rise
        # Never negative but for rounding; and never zero, where a root has no derivative.
        root = (b**2 - 4 * a * c).clamp(min=torch.finfo(z.dtype).tiny).sqrt()
        # One form of the solution cancels where b is negative, the other where it is not.
        rising = b >= 0
        position = torch.where(rising, 2 * c, root - b) / torch.where(rising, -b - root, 2 * a)
        position = position.clamp(0, 1)
        between = position * (1 - position)
        denominator = mean_slope + (slope_left + slope_right - 2 * mean_slope) * between
        log_slope = _log_slope(position, between, mean_slope, slope_left, slope_right, denominator)
        inside = z.abs() < self.bound
        x = torch.where(inside, left + position * width, z)
        return x, torch.where(inside, -log_slope, 0.0)

    def _knots(self, values: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Knot positions on both axes and slopes, each (..., D, n_bins + 1)."""
        parameters = parameters.unflatten(-1, (values.shape[-1], self.n_parameters))
        raw_sizes = parameters[..., : 2 * self.n_bins].unflatten(-1, (2, self.n_bins))
        sizes = functional.softmax(soft_clip(raw_sizes, LOG_SLOPE_LIMIT / 2), dim=-1)
        # The last knot is set, not summed: rounding must not move it off the bound.
        inner = self.bound * (2 * sizes.cumsum(dim=-1)[..., :-1] - 1)
        knots_x, knots_z = functional.pad(
            functional.pad(inner, (1, 0), value=-self.bound), (0, 1), value=self.bound
        ).unbind(dim=-2)
        log_slopes = soft_clip(parameters[..., 2 * self.n_bins :], LOG_SLOPE_LIMIT)
        return knots_x, knots_z, functional.pad(log_slopes, (1, 1)).exp()


def _bin_of(
    values: Tensor, searched: Tensor, knots_x: Tensor, knots_z: Tensor, slopes: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Left edge, width, bottom, height and both slopes of the bin each value falls in."""
    left_knot = (searched[..., 1:-1] <= values.unsqueeze(-1)).sum(dim=-1, keepdim=True)
    right_knot = left_knot + 1
    left = knots_x.gather(-1, left_knot).squeeze(-1)
    bottom = knots_z.gather(-1, left_knot).squeeze(-1)
    width = knots_x.gather(-1, right_knot).squeeze(-1) - left
    height = knots_z.gather(-1, right_knot).squeeze(-1) - bottom
    slope_left = slopes.gather(-1, left_knot).squeeze(-1)
    slope_right = slopes.gather(-1, right_knot).squeeze(-1)
    return left, width, bottom, height, slope_left, slope_right


def _log_slope(
    position: Tensor,
    between: Tensor,
    mean_slope: Tensor,
    slope_left: Tensor,
    slope_right: Tensor,
    denominator: Tensor,
) -> Tensor:
    numerator = (
        slope_right * position**2 + 2 * mean_slope * between + slope_left * (1 - position) ** 2
    )
    return 2 * (mean_slope.log() - denominator.log()) + numerator.log()
