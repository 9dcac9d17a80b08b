"""The monotone rational-quadratic spline: fast by few passes over its many parameters.

Source: Durkan et al., "Neural Spline Flows" (2019), equations 4 to 8.

A spline of 8 bins takes 23 parameters a value, so its time is that of passes over them. Here bins
are the leading axis and values the last, so that every pass is vectorised over values, in blocks
that stay in the cache; and the gradient is written by hand. Masks are floats, and a selection is an
interpolation by 0 or 1, since in torch these run several times faster than booleans, `where`,
`gather` and `cumsum`.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function, grad
from torch.nn import functional

from vmonf.flows.transform import in_function_transform, soft_clip

#: Sizes of bins are a softmax of values soft-clipped to +-this: none is too thin to divide by.
SIZE_LIMIT = math.log(1e3) / 2
#: Log-slopes at the knots are soft-clipped to +-this.
SLOPE_LIMIT = math.log(1e3)
#: Values a block: more do not fit in the cache, and with fewer the overhead of calls shows.
BLOCK = 16384


def rational_quadratic_spline(
    values: Tensor, parameters: Tensor, bound: float, *, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Apply increasing splines on [-bound, bound], the identity outside.

    Parameters
    ----------
    values : Tensor of shape (..., B, D)
    parameters : Tensor of shape (..., B, (3 * n_bins - 1) * D)
        For all features the first width, then for all the second, ...; then heights, and slopes
        at the interior knots. Fastest where it is the transpose of a contiguous tensor.
    bound : float
    inverse : bool
        Undo the splines instead.

    Returns
    -------
    outputs, log_derivatives : Tensor of shape (..., B, D)
    """
    if in_function_transform() and not inverse:
        return _plain(values, parameters, bound)
    outputs, log_derivatives, _ = _Spline.apply(  # type: ignore[no-untyped-call]
        values, parameters, bound, inverse
    )
    return outputs, log_derivatives


def spline_forward(
    values: Tensor, parameters: Tensor, bound: float, out: Tensor, *, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """The same without autograd, features first: values (K, D, B), parameters (K, P * D, B).

    The outputs go to `out`; the log-derivatives (K, D, B) come back, and the bins.
    """
    rows = values.flatten(start_dim=1)
    outputs = out.view(rows.shape)
    own = _parameters_first(parameters, values.shape[1])
    log_slopes = torch.empty_like(rows, memory_format=torch.contiguous_format)
    bins = rows.new_empty(_BIN_SIZE, *rows.shape)
    evaluate = _inverse if inverse else _forward
    for block, scratch in _blocks(rows, len(own)):
        outputs[block], log_slopes[block] = evaluate(
            rows[block], own[:, *block], bound, scratch, bins[:, *block]
        )
    return log_slopes.view(values.shape), bins


def spline_backward(
    x: Tensor,
    parameters: Tensor,
    bins: Tensor,
    bound: float,
    grad_outputs: Tensor,
    grad_log_slopes: Tensor,
    out: Tensor,
    *,
    inverse: bool = False,
) -> Tensor:
    """Gradient of the parameters (K, P * D, B); that of the values goes to `out`.

    x are values, or outputs of the inverse.
    """
    rows = x.flatten(start_dim=1)
    grad_rows = out.view(rows.shape)
    own = _parameters_first(parameters, x.shape[1])
    grads = grad_outputs.flatten(start_dim=1), grad_log_slopes.flatten(start_dim=1)
    grad_parameters = torch.empty_like(parameters, memory_format=torch.contiguous_format)
    grad_own = _parameters_first(grad_parameters, x.shape[1])
    for block, scratch in _blocks(rows, len(own)):
        grad_rows[block] = _gradients(
            rows[block],
            own[:, *block],
            bins[:, *block],
            grads[0][block],
            grads[1][block],
            bound,
            inverse,
            scratch,
            out=grad_own[:, *block],
        )
    return grad_parameters


class _Spline(Function):
    """The spline on its own, with the layout of `Transform`."""

    @staticmethod
    def forward(
        values: Tensor, parameters: Tensor, bound: float, inverse: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        outputs = torch.empty_like(_rows_last(values), memory_format=torch.contiguous_format)
        log_slopes, bins = spline_forward(
            _rows_last(values), _rows_last(parameters), bound, outputs, inverse=inverse
        )
        return _rows_first(outputs, values), _rows_first(log_slopes, values), bins

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, float, bool], output: tuple[Tensor, Tensor, Tensor]
    ) -> None:
        values, parameters, ctx.bound, ctx.inverse = inputs
        outputs, _, bins = output
        ctx.mark_non_differentiable(bins)
        ctx.set_materialize_grads(False)  # none of `bins`, which is for the backward alone
        ctx.save_for_backward(outputs if ctx.inverse else values, parameters, bins)

    @staticmethod
    def backward(
        ctx: Any, grad_outputs: Tensor | None, grad_log_slopes: Tensor | None, _: None
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, parameters, bins = ctx.saved_tensors
        grad_outputs = torch.zeros_like(x) if grad_outputs is None else grad_outputs
        grad_log_slopes = torch.zeros_like(x) if grad_log_slopes is None else grad_log_slopes
        if torch.is_grad_enabled():  # for second derivatives
            by_autograd = _plain_gradients(
                x, parameters, grad_outputs, grad_log_slopes, ctx.bound, ctx.inverse
            )
            return *by_autograd, None, None
        rows = _rows_last(x)
        grad_rows = torch.empty_like(rows, memory_format=torch.contiguous_format)
        grad_parameters = spline_backward(
            rows,
            _rows_last(parameters),
            bins,
            ctx.bound,
            _rows_last(grad_outputs),
            _rows_last(grad_log_slopes),
            grad_rows,
            inverse=ctx.inverse,
        )
        return _rows_first(grad_rows, x), _rows_first(grad_parameters, parameters), None, None


# Layouts


def _rows_last(values: Tensor) -> Tensor:
    """(..., B, D) values as (K, D, B)."""
    transposed: Tensor = values.mT if values.dim() > 2 else values.mT.unsqueeze(0)
    return transposed.flatten(end_dim=-3)


def _rows_first(values: Tensor, like: Tensor) -> Tensor:
    """Undo `_rows_last`."""
    return values.mT.reshape(like.shape)


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
    inverse: bool,
    scratch: Tensor,
    *,
    out: Tensor,
) -> Tensor:
    """Gradient of the values; that of the parameters goes to `out`.

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

    The inverse is differentiated implicitly. Let H and -L be the gradients of x and of
    log dx/dz, and e the part of g_x that is due to L: then all is as if G were -(H + e) dx/dz,
    and z has the gradient -G.
    """
    n_bins = (len(parameters) + 1) // 3
    inside = _inside(x, bound)
    curve = _curve(bin_, bin_[9])
    p, q, _ = curve.sides
    width, height = curve.size
    u, v = curve.ends
    a, b = curve.slopes
    log_slope = grad_log_slopes * inside
    if inverse:
        log_slope.neg_()
    over_numerator = log_slope / curve.numerator
    over_denominator = log_slope / curve.denominator

    grad_p = (v - u).mul_(over_numerator)
    grad_p.addcmul_((a + b).sub_(2).mul_(q - p), over_denominator, value=-1).mul_(2)
    grad_z = grad_outputs * inside
    if inverse:
        grad_z.addcdiv_(grad_p, width).div_(curve.slope()).neg_()
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
    grad_values = grad_z.neg_() if inverse else grad_x
    return grad_values.addcmul_(grad_outputs, 1 - inside)


# Second derivatives and transforms of torch.func: rare, and left to autograd.


def _plain(x: Tensor, parameters: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """What `_forward` computes, for autograd: values (..., D), parameters (..., P * D)."""
    parameters = parameters.unflatten(-1, (-1, x.shape[-1]))
    n_bins = (parameters.shape[-2] + 1) // 3
    raw_sizes, raw_slopes = parameters.split((2 * n_bins, n_bins - 1), dim=-2)
    raw_sizes = raw_sizes.unflatten(-2, (2, n_bins))
    sizes = functional.softmax(soft_clip(raw_sizes, SIZE_LIMIT), dim=-2)
    edges = functional.pad(sizes.cumsum(dim=-2), (0, 0, 1, 0)).mul(2 * bound) - bound
    log_slopes = soft_clip(raw_slopes, SLOPE_LIMIT)
    slopes = functional.pad(log_slopes, (0, 0, 1, 1)).exp()
    clamped = x.clamp(-bound, bound).unsqueeze(-2)
    index = (edges[..., 0, 1:-1, :] <= clamped).sum(dim=-2, keepdim=True)
    both = torch.stack((index, index), dim=-3)
    low, high = (edges.gather(-2, both + k).squeeze(-2) for k in (0, 1))
    left, bottom = low.unbind(dim=-2)
    width, height = (high - low).unbind(dim=-2)
    mean_slope = height / width
    a, b = (slopes.gather(-2, index + k).squeeze(-2) / mean_slope for k in (0, 1))
    p = (clamped.squeeze(-2) - left) / width
    between = p * (1 - p)
    denominator = 1 + (a + b - 2) * between
    z = bottom + height * (p**2 + a * between) / denominator
    slope = mean_slope * (b * p**2 + 2 * between + a * (1 - p) ** 2) / denominator**2
    inside = x.abs() < bound
    return torch.where(inside, z, x), torch.where(inside, slope.log(), 0.0)


def _plain_gradients(
    x: Tensor,
    parameters: Tensor,
    grad_outputs: Tensor,
    grad_log_slopes: Tensor,
    bound: float,
    inverse: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """What `_gradients` computes, by autograd and for autograd."""
    # Aliases, since the gradients are partial ones, and parameters may depend on x or x on them.
    x, parameters = x.view_as(x), parameters.view_as(parameters)
    z, log_slope = _plain(x, parameters, bound)
    grad_values = None
    if inverse:
        grad_log_slopes = -grad_log_slopes
        (grad_x,) = grad(log_slope, x, grad_log_slopes, create_graph=True)
        grad_values = (grad_outputs + grad_x) * (-log_slope).exp()
        grad_outputs = -grad_values
    asked = [tensor for tensor in (x, parameters) if tensor.requires_grad]
    grads = grad_outputs, grad_log_slopes
    gradients = iter(grad((z, log_slope), asked, grads, create_graph=True))
    grad_forward = next(gradients) if x.requires_grad else None
    grad_parameters = next(gradients) if parameters.requires_grad else None
    return grad_values if inverse else grad_forward, grad_parameters
