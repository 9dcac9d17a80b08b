"""The rational-quadratic spline, evaluated and differentiated in few passes over its parameters.

The formulas and their source are in `vmonf.flows.spline`.

A spline of 8 bins takes 23 parameters per value, so that its time is the time of passes over the
parameters. Here bins are the leading axis and values the last, so that every pass is vectorised
over values; values are taken in blocks that stay in the cache. Masks are floats, and a selection
is an interpolation by 0 or 1, because in torch these run several times faster than booleans,
`where`, `gather` and `cumsum`.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from vmonf.flows.kernels.function import Kernel, Tensors
from vmonf.flows.spline import SIZE_LIMIT, SLOPE_LIMIT, inverse_spline, spline

#: Values per block: larger blocks do not fit in the cache, smaller ones take more calls.
BLOCK = 16384


class Spline(Kernel):
    """The splines from data to base: values (..., B, D), parameters (..., B, P * D)."""

    n_outputs = 2

    def __init__(self, bound: float) -> None:
        self.bound = bound

    def plain(self, *tensors: Tensor) -> Tensors:
        """See `vmonf.flows.spline.spline`."""
        x, parameters = tensors
        return spline(x, parameters, self.bound)

    def evaluate(self, *tensors: Tensor) -> tuple[Tensors, Tensors]:
        """See `Kernel.evaluate`; the bins are kept."""
        x, parameters = tensors
        outputs, bins = _evaluate_in_blocks(_forward, x, parameters, self.bound)
        return outputs, (bins,)

    def gradients(
        self, tensors: Sequence[Tensor], kept: Sequence[Tensor], grad_outputs: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """See `Kernel.gradients`."""
        x, parameters = (_rows_last(tensor) for tensor in tensors)
        rows, grad_z, grad_log_slopes = (
            _rows_last(tensor).flatten(start_dim=1) for tensor in (tensors[0], *grad_outputs)
        )
        (bins,) = kept
        own = _parameters_first(parameters, x.shape[1])
        grad_rows = torch.empty_like(rows, memory_format=torch.contiguous_format)
        grad_parameters = torch.empty_like(parameters, memory_format=torch.contiguous_format)
        grad_own = _parameters_first(grad_parameters, x.shape[1])
        for block, scratch in _blocks(rows, len(own)):
            grad_rows[block] = _gradients(
                rows[block],
                own[:, *block],
                bins[:, *block],
                grad_z[block],
                grad_log_slopes[block],
                self.bound,
                scratch,
                out=grad_own[:, *block],
            )
        gradients = grad_rows.view(x.shape), grad_parameters
        return [g.mT.reshape(t.shape) for g, t in zip(gradients, tensors, strict=True)]


class InverseSpline(Kernel):
    """The splines from base to data; its gradients are those of the plain formula."""

    n_outputs = 2

    def __init__(self, bound: float) -> None:
        self.bound = bound

    def plain(self, *tensors: Tensor) -> Tensors:
        """See `vmonf.flows.spline.inverse_spline`."""
        z, parameters = tensors
        return inverse_spline(z, parameters, self.bound)

    def evaluate(self, *tensors: Tensor) -> tuple[Tensors, Tensors]:
        """See `Kernel.evaluate`; nothing is kept."""
        z, parameters = tensors
        outputs, _ = _evaluate_in_blocks(_inverse, z, parameters, self.bound)
        return outputs, ()


def _evaluate_in_blocks(
    evaluate: Callable[[Tensor, Tensor, float, Tensor, Tensor], tuple[Tensor, Tensor]],
    values: Tensor,
    parameters: Tensor,
    bound: float,
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Apply `_forward` or `_inverse` to values (..., B, D) with parameters (..., B, P * D).

    Returns the outputs and the log-derivatives, both (..., B, D), and the bins.
    """
    features_first = _rows_last(values)
    rows = features_first.flatten(start_dim=1)
    own = _parameters_first(_rows_last(parameters), values.shape[-1])
    results = rows.new_empty(2, *rows.shape)
    bins = rows.new_empty(_BIN_SIZE, *rows.shape)
    for block, scratch in _blocks(rows, len(own)):
        results[0][block], results[1][block] = evaluate(
            rows[block], own[:, *block], bound, scratch, bins[:, *block]
        )
    outputs, log_slopes = (
        result.view(features_first.shape).mT.reshape(values.shape) for result in results
    )
    return (outputs, log_slopes), bins


# Layouts


def _rows_last(values: Tensor) -> Tensor:
    """(..., B, D) values as (K, D, B)."""
    transposed: Tensor = values.mT if values.dim() > 2 else values.mT.unsqueeze(0)
    return transposed.flatten(end_dim=-3)


def _parameters_first(parameters: Tensor, n_features: int) -> Tensor:
    """(K, P * D, B) parameters of D features as (P, K, D * B)."""
    by_parameter: Tensor = parameters.unflatten(1, (-1, n_features)).flatten(start_dim=2)
    return by_parameter.transpose(0, 1)


def _blocks(values: Tensor, n_parameters: int) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """Cut (K, N) values into blocks, each with the same scratch; an accelerator takes one block."""
    n_components, n_values = values.shape
    size = BLOCK if values.device.type == "cpu" else max(values.numel(), 1)
    width = max(1, min(n_values, size))
    height = max(1, min(n_components, size // width))
    n_bins = (n_parameters + 1) // 3
    scratch = values.new_empty(5 * n_bins + 1, height, width)  # what `_gradients` takes
    for first in range(0, n_components, height):
        for start in range(0, n_values, width):
            block = slice(first, first + height), slice(start, start + width)
            rows, columns = values[block].shape
            yield block, scratch[:, :rows, :columns]


# One block: values (...), parameters (3 * n_bins - 1, ...).

#: What is kept of a bin: low and high edges on both axes, raw log-slopes at both edges, how large
#: an unnormalised size of 1 is on both axes, its number, and the position in it.
_BIN_SIZE = 10


def _find_bin(
    values: Tensor, parameters: Tensor, bound: float, axis: int, scratch: Tensor, out: Tensor
) -> None:
    """Find values in [-bound, bound] among the edges on one axis, 0 for x and 1 for z.

    `out` (_BIN_SIZE, ...) receives the bin.
    """
    n_bins = (len(parameters) + 1) // 3
    edges = scratch[: 2 * n_bins + 2].unflatten(0, (n_bins + 1, 2))
    raw_sizes = parameters[: 2 * n_bins].unflatten(0, (2, n_bins)).transpose(0, 1)
    sizes = edges[1:]
    torch.abs(raw_sizes, out=sizes).add_(SIZE_LIMIT)
    zero = values.new_zeros(())
    torch.addcdiv(zero, raw_sizes, sizes, value=SIZE_LIMIT, out=sizes).exp_()
    edges[0].fill_(0)
    steps = edges.unbind(dim=0)
    for edge, next_edge in pairwise(steps[1:]):
        next_edge.add_(edge)

    total = steps[-1]
    target = (values + bound).mul_(1 / (2 * bound)).mul_(total[axis])
    reached = scratch[2 * n_bins + 2 : 3 * n_bins + 1]
    torch.ge(target, edges[1:-1, axis], out=reached)
    # Edges and slopes start as the first bin's and become the next bin's where that is reached.
    pairs = edges.unfold(0, 2, 1).movedim(-1, 1).unbind(dim=0)
    knots = parameters[2 * n_bins :]  # beyond the last, and before the first, a log-slope is zero
    bin_edges, log_slopes = out[:4].unflatten(0, (2, 2)), out[4:6]
    bin_edges.copy_(pairs[0])
    log_slopes.fill_(0)
    if n_bins > 1:
        log_slopes[1].copy_(knots[0])
    for index, mask in enumerate(reached.unbind(dim=0), start=1):
        bin_edges.lerp_(pairs[index], mask)
        if index < n_bins - 1:
            log_slopes.lerp_(knots[index - 1 : index + 1], mask)
        else:
            log_slopes[0].lerp_(knots[index - 1], mask)
            log_slopes[1].lerp_(zero, mask)
    torch.sum(reached, dim=0, out=out[8])

    # Sizes and positions are taken from edges as rounded, so that bins join, and that an inverse
    # finds what forward did. Rounding may put a value a little beyond its bin.
    bin_edges.mul_(torch.div(2 * bound, total, out=out[6:8])).sub_(bound)
    low, high = bin_edges[:, axis]
    torch.div(values - low, high - low, out=out[9]).clamp_(0, 1)


class _Curve(NamedTuple):
    """The spline in its bin, equations 4 and 5 in the bin's unit square.

    With the position p, q = 1 - p, and slopes a, b over the mean slope, let u = p + a q and
    v = q + b p. Then rise = p u / D and d rise / dp = N / D^2, where D = p u + q v and
    N = p v + q u: all terms are positive, so that nothing cancels.
    """

    sides: Tensor  # (3, ...): p, q, p
    slopes: Tensor  # (2, ...): a, b
    softness: Tensor  # (2, ...): what the soft clip of the log-slopes divided by
    mean_slope: Tensor
    size: Tensor  # (2, ...): width and height
    ends: Tensor  # (2, ...): u, v
    denominator: Tensor
    numerator: Tensor
    rises: Tensor  # (2, ...): rise, 1 - rise

    def slope(self) -> Tensor:
        """Equation 5."""
        slope = self.mean_slope * self.numerator
        return slope.div_(self.denominator).div_(self.denominator)


def _curve(bin_: Tensor, position: Tensor) -> _Curve:
    size = bin_[2:4] - bin_[:2]
    mean_slope = size[1] / size[0]
    softness = bin_[4:6].abs().mul_(1 / SLOPE_LIMIT).add_(1)
    slopes = (bin_[4:6] / softness).exp_().div_(mean_slope)
    sides = torch.stack((position, 1 - position, position))
    near, far = sides[:2], sides[1:]
    ends = torch.addcmul(near, slopes, far)
    rises = near * ends
    denominator = rises[0] + rises[1]
    numerator = (far[0] * ends[0]).addcmul_(far[1], ends[1])
    rises.div_(denominator)
    return _Curve(sides, slopes, softness, mean_slope, size, ends, denominator, numerator, rises)


def _inside(values: Tensor, bound: float) -> Tensor:
    """1 within the box and 0 elsewhere."""
    distance = values.abs()
    return torch.lt(distance, bound, out=distance)


def _choose(inside: Tensor, outputs: Tensor, clamped: Tensor, values: Tensor) -> Tensor:
    """Exactly the outputs inside of the box, and exactly the values outside, be they infinite."""
    return torch.addcmul(values, clamped, inside, value=-1).addcmul_(outputs, inside)


def _forward(
    x: Tensor, parameters: Tensor, bound: float, scratch: Tensor, bin_: Tensor
) -> tuple[Tensor, Tensor]:
    clamped, inside = x.clamp(-bound, bound), _inside(x, bound)
    _find_bin(clamped, parameters, bound, 0, scratch, out=bin_)
    curve = _curve(bin_, bin_[9])
    z = torch.addcmul(bin_[1], curve.size[1], curve.rises[0])
    return _choose(inside, z, clamped, x), curve.slope().log_().mul_(inside)


def _inverse(
    z: Tensor, parameters: Tensor, bound: float, scratch: Tensor, bin_: Tensor
) -> tuple[Tensor, Tensor]:
    clamped, inside = z.clamp(-bound, bound), _inside(z, bound)
    _find_bin(clamped, parameters, bound, 1, scratch, out=bin_)
    rise = bin_[9]
    left, right = _curve(bin_, rise).slopes
    # Equations 6 to 8: (1 - b) position^2 + b position - rise = 0.
    b = torch.addcmul(left, rise, 2 - left - right)
    a = 1 - b
    root = (b * b).addcmul_(a, rise, value=4).clamp_(min=0).sqrt_()
    # One form of the solution cancels where b is negative, the other where it is not.
    rising = b >= 0
    position = torch.where(rising, 2 * rise, root - b) / torch.where(rising, b + root, 2 * a)
    bin_[9].copy_(position.clamp_(0, 1))
    curve = _curve(bin_, position)
    x = torch.addcmul(bin_[0], curve.size[0], position)
    return _choose(inside, x, clamped, z), curve.slope().log_().mul_(inside).neg_()


def _gradients(
    x: Tensor,
    parameters: Tensor,
    bin_: Tensor,
    grad_outputs: Tensor,
    grad_log_slopes: Tensor,
    bound: float,
    scratch: Tensor,
    *,
    out: Tensor,
) -> Tensor:
    """Gradient of the values; the gradient of the parameters goes to `out`.

    In the symbols of `_Curve`, with width w, height h, and the gradients G of z and L of
    log dz/dx,

        z = bottom + h rise,    log dz/dx = log(h / w) + log N - 2 log D,

    the gradients of p, a and b are

        g_p = G h N / D^2 + 2 L ((v - u) / N - (a + b - 2) (q - p) / D)
        g_a = p q (G h (1 - rise) - 2 L) / D + q^2 L / N
        g_b = p q (-G h rise - 2 L) / D + p^2 L / N.

    As p = (x - left) / w, and a and b are slopes over h / w, with c = a g_a + b g_b - L,

        g_x = -g_left = g_p / w,    g_w = (c - p g_p) / w,    g_h = G rise - c / h,

    g_bottom = G, and the log-slopes have a g_a and b g_b. A width or height is 2 bound times a
    softmax s, and left and bottom are sums of those before bin k, so that the softmax's input j
    has 2 bound s_j (g_left [j < k] + g_w [j = k] - m), where m is the mean under s of the two
    terms before it. A soft clip v / (1 + |v| / limit) has the slope 1 / (1 + |v| / limit)^2.
    """
    n_bins = (len(parameters) + 1) // 3
    inside = _inside(x, bound)
    curve = _curve(bin_, bin_[9])
    p, q, _ = curve.sides
    width, height = curve.size
    u, v = curve.ends
    a, b = curve.slopes
    log_slope = grad_log_slopes * inside
    over_numerator = log_slope / curve.numerator
    over_denominator = log_slope / curve.denominator

    grad_p = (v - u).mul_(over_numerator)
    grad_p.addcmul_((a + b).sub_(2).mul_(q - p), over_denominator, value=-1).mul_(2)
    grad_z = grad_outputs * inside
    along = (grad_z * height).div_(curve.denominator)
    grad_p.addcdiv_(along * curve.numerator, curve.denominator)
    grad_x = grad_p / width

    # Those of the log-slopes at the left and the right.
    ends = torch.stack((along, -along)).mul_(curve.rises.flip(0))
    ends.sub_(over_denominator, alpha=2).mul_(p * q)
    far = curve.sides[1:]
    ends.addcmul_(far * far, over_numerator).mul_(curve.slopes)
    c = (ends[0] + ends[1]).sub_(log_slope)

    # By bin, of both axes: those before bin k, bin k, and those after it.
    before = torch.stack((-grad_x, grad_z))
    at = torch.stack((torch.addcmul(c, p, grad_p, value=-1), grad_z * curve.rises[0]))
    at[0].div_(width)
    at[1].sub_(c.div_(height))
    mean = (bin_[:2] + bound).mul_(before).addcmul_(curve.size, at).mul_(1 / (2 * bound))
    scale = bin_[6:8] * SIZE_LIMIT**2
    before.sub_(mean).mul_(scale)
    at.sub_(mean).mul_(scale)
    after = mean.mul_(scale).neg_()

    softness, sizes = scratch[: 4 * n_bins].unflatten(0, (2, 2, n_bins))
    reached = scratch[4 * n_bins : 5 * n_bins + 1]
    number = torch.arange(n_bins + 1, dtype=x.dtype, device=x.device)[:, None, None]
    torch.ge(bin_[8], number, out=reached)
    raw_sizes = parameters[: 2 * n_bins].unflatten(0, (2, n_bins))
    torch.abs(raw_sizes, out=softness).add_(SIZE_LIMIT)
    torch.addcdiv(x.new_zeros(()), raw_sizes, softness, value=SIZE_LIMIT, out=sizes)
    sizes.exp_().div_(softness).div_(softness)
    by_bin = torch.lerp(after.unsqueeze(1), at.unsqueeze(1), reached[:-1], out=softness)
    by_bin.lerp_(before.unsqueeze(1), reached[1:])
    torch.mul(by_bin, sizes, out=out[: 2 * n_bins].unflatten(0, (2, n_bins)))

    left, right = ends.div_(curve.softness).div_(curve.softness)
    chosen = torch.sub(reached[:-1], reached[1:], out=sizes[0])
    torch.mul(chosen[1:], left, out=out[2 * n_bins :]).addcmul_(chosen[:-1], right)
    return torch.addcmul(grad_x, grad_outputs, 1 - inside)
