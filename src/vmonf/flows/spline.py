"""The monotone rational-quadratic spline, as a plain formula.

Source: Durkan et al., "Neural Spline Flows" (2019), equations 4 to 8.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from vmonf.flows.transform import soft_clip

#: Sizes of bins are a softmax of values soft-clipped to +-this: no bin is too thin to divide by.
SIZE_LIMIT = math.log(1e3) / 2
#: Log-slopes at the knots are soft-clipped to +-this.
SLOPE_LIMIT = math.log(1e3)


def spline(x: Tensor, parameters: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Apply increasing splines on [-bound, bound], and the identity outside.

    Parameters
    ----------
    x : Tensor of shape (..., D)
    parameters : Tensor of shape (..., (3 * n_bins - 1) * D)
        The first width for all features, then the second for all features, ...; then the
        heights, and the slopes at the interior knots.
    bound : float

    Returns
    -------
    z, log_slopes : Tensor of shape (..., D)
        The values, and the logarithms of their derivatives.
    """
    inside = x.abs() < bound
    clamped = x.clamp(-bound, bound)
    bin_ = _find_bin(clamped, parameters, bound, axis=0)
    z = bin_.bottom + bin_.height * bin_.rise((clamped - bin_.left) / bin_.width)
    log_slope = bin_.log_slope((clamped - bin_.left) / bin_.width)
    return torch.where(inside, z, x), torch.where(inside, log_slope, 0.0)


def inverse_spline(z: Tensor, parameters: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Undo `spline`; the log-derivatives are those of the inverse map."""
    inside = z.abs() < bound
    clamped = z.clamp(-bound, bound)
    bin_ = _find_bin(clamped, parameters, bound, axis=1)
    position = bin_.position((clamped - bin_.bottom) / bin_.height)
    x = bin_.left + bin_.width * position
    log_slope = bin_.log_slope(position)
    return torch.where(inside, x, z), torch.where(inside, -log_slope, 0.0)


class _Bin(NamedTuple):
    """The bin of each value.

    In the unit square of the bin the spline goes from (0, 0) to (1, 1), with slopes a at the
    left and b at the right. At the position p, with q = 1 - p, u = p + a q and v = q + b p, it
    has the rise p u / (p u + q v), which is equation 4. All terms are positive.
    """

    left: Tensor
    bottom: Tensor
    width: Tensor
    height: Tensor
    a: Tensor
    b: Tensor

    def rise(self, p: Tensor) -> Tensor:
        """The rise at a position, both in [0, 1]."""
        q = 1 - p
        over, under = p * (p + self.a * q), q * (q + self.b * p)
        return over / (over + under)

    def log_slope(self, p: Tensor) -> Tensor:
        """Equation 5: the log-derivative of the spline, in units of x and z."""
        q = 1 - p
        u, v = p + self.a * q, q + self.b * p
        return (self.height / self.width * (p * v + q * u) / (p * u + q * v) ** 2).log()

    def position(self, rise: Tensor) -> Tensor:
        """Equations 6 to 8: the position of a rise, a root of (1 - c) p^2 + c p = rise."""
        c = self.a + rise * (2 - self.a - self.b)
        # The discriminant c^2 + 4 (1 - c) rise, as a sum of terms that are not negative.
        root = ((c - 2 * rise) ** 2 + 4 * rise * (1 - rise)).sqrt()
        # Two forms of the same root: for a negative c the second has no cancellation.
        is_positive = c >= 0
        over = torch.where(is_positive, 2 * rise, root - c)
        return over / torch.where(is_positive, c + root, 2 * (1 - c))


def _find_bin(values: Tensor, parameters: Tensor, bound: float, axis: int) -> _Bin:
    """The bins of values in [-bound, bound], looked up on one axis: 0 for x and 1 for z."""
    parameters = parameters.unflatten(-1, (-1, values.shape[-1]))
    n_bins = (parameters.shape[-2] + 1) // 3
    raw_sizes, raw_slopes = parameters.split((2 * n_bins, n_bins - 1), dim=-2)
    raw_sizes = raw_sizes.unflatten(-2, (2, n_bins))
    sizes = functional.softmax(soft_clip(raw_sizes, SIZE_LIMIT), dim=-2)
    inner = sizes[..., :-1, :].cumsum(dim=-2).mul(2 * bound) - bound
    edges = functional.pad(inner, (0, 0, 1, 0), value=-bound)  # exactly the bounds at both ends
    edges = functional.pad(edges, (0, 0, 0, 1), value=bound)
    log_slopes = soft_clip(raw_slopes, SLOPE_LIMIT)
    slopes = functional.pad(log_slopes, (0, 0, 1, 1)).exp()
    is_reached = edges[..., axis, 1:-1, :] <= values.unsqueeze(-2)
    index = is_reached.sum(dim=-2, keepdim=True)
    both = torch.stack((index, index), dim=-3)
    low, high = (edges.gather(-2, both + k).squeeze(-2) for k in (0, 1))
    width, height = (high - low).unbind(dim=-2)
    a, b = (slopes.gather(-2, index + k).squeeze(-2) * width / height for k in (0, 1))
    left, bottom = low.unbind(dim=-2)
    return _Bin(left, bottom, width, height, a, b)
