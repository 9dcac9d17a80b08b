"""K perceptrons side by side: the products of a training step, with their backward by hand.

Values lie in memory features first, rows last (see `Transform`), so that whatever is done to
each value runs along rows, however few the features are.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

#: Rows and columns of a weight; what these columns have outside of the rows is zero.
Block = tuple[slice, slice]
#: Columns of a block. Narrower ones skip more of a staircase, but are slower to multiply.
BLOCK_WIDTH = 128


def blocks_of(mask: Tensor) -> list[Block]:
    """Cut a mask of shape (in, out) into blocks of columns, with the rows that these see.

    The masks of autoregressive networks are staircases, so that nearly half is skipped.
    """
    blocks = []
    for start in range(0, mask.shape[1], BLOCK_WIDTH):
        columns = slice(start, min(start + BLOCK_WIDTH, mask.shape[1]))
        seen = mask[:, columns].any(dim=1).nonzero().flatten().tolist()
        rows = slice(seen[0], seen[-1] + 1) if seen else slice(0, 0)
        blocks.append((rows, columns))
    return blocks


class Perceptrons(torch.autograd.Function):
    """Linear layers with ReLU between, of inputs soft-clipped as by `soft_clip`.

    Arguments are x of shape (K, B, in), the limit of the clip, a mask (in, out) or None for
    each layer, blocks or None for each layer, then all weights (K, in, out), then all biases
    (K, 1, out). Weights are zero where their mask is; the mask makes their gradient so too.

    Autograd would keep, fill and read more large tensors than these: here a layer's bias and
    ReLU are done in place, and so is the gradient of the ReLU.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        limit: float,
        masks: Sequence[Tensor | None],
        blocks: Sequence[list[Block] | None],
        *parameters: Tensor,
    ) -> Tensor:
        """Outputs (K, B, out)."""
        n_layers = len(masks)
        weights, biases = parameters[:n_layers], parameters[n_layers:]
        values = x.mT
        softness = torch.empty(values.shape, dtype=x.dtype, device=x.device)
        torch.abs(values, out=softness).mul_(1 / limit).add_(1)
        values = torch.div(values, softness, out=softness)
        inputs = [values]
        for weight, bias, block in zip(weights, biases, blocks, strict=True):
            values = _product(weight, values, block).add_(bias.mT)
            if len(inputs) < n_layers:
                inputs.append(values.relu_())
        ctx.limit, ctx.masks, ctx.blocks = limit, masks, blocks
        ctx.save_for_backward(x, *parameters, *inputs)
        return values.mT

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weights and biases."""
        n_layers = len(ctx.masks)
        x, *saved = ctx.saved_tensors
        parameters, inputs = saved[: 2 * n_layers], saved[2 * n_layers :]
        if torch.is_grad_enabled():  # of a gradient, a gradient is asked for: left to autograd
            own = [tensor.view_as(tensor) for tensor in (x, *parameters)]  # see `AffineForward`
            output = perceptrons(own[0], ctx.limit, ctx.masks, own[1:])
            gradients = torch.autograd.grad(
                output, own, grad_output, create_graph=True, materialize_grads=True
            )
            return gradients[0], None, None, None, *gradients[1:]
        weight_gradients: list[Tensor] = []
        bias_gradients: list[Tensor] = []
        gradient = grad_output.mT
        for layer in reversed(range(n_layers)):
            weight, values = parameters[layer], inputs[layer]
            mask, blocks = ctx.masks[layer], ctx.blocks[layer]
            weight_gradients.append(_outer_product(values, gradient, mask, blocks))
            bias_gradients.append(gradient.sum(dim=-1).unsqueeze(1))
            gradient = _product_back(weight, gradient, blocks)
            if layer > 0:
                torch.ops.aten.threshold_backward(gradient, values, 0, grad_input=gradient)
        # The clip's slope (1 + |x| / limit)^-2, from the clipped values.
        slope = torch.rsub(inputs[0].abs(), 1, alpha=1 / ctx.limit)
        gradient.mul_(slope).mul_(slope)
        return (
            gradient.mT,
            None,
            None,
            None,
            *reversed(weight_gradients),
            *reversed(bias_gradients),
        )


def perceptrons(
    x: Tensor, limit: float, masks: Sequence[Tensor | None], parameters: Sequence[Tensor]
) -> Tensor:
    """The same as `Perceptrons`, its backward left to autograd."""
    n_layers = len(masks)
    values = x / (1 + x.abs() / limit)
    for layer in range(n_layers):
        weight, mask = parameters[layer], masks[layer]
        if mask is not None:
            weight = weight * mask
        values = torch.baddbmm(parameters[n_layers + layer], values, weight)
        if layer + 1 < n_layers:
            values = values.relu()
    return values


def _product(weight: Tensor, values: Tensor, blocks: list[Block] | None) -> Tensor:
    """Values by weights: (K, in, out) and (K, in, B) to (K, out, B)."""
    if blocks is None:
        return torch.bmm(weight.mT, values)
    product = values.new_empty(len(weight), weight.shape[2], values.shape[2])
    for rows, columns in blocks:
        torch.bmm(weight[:, rows, columns].mT, values[:, rows], out=product[:, columns])
    return product


def _product_back(weight: Tensor, gradient: Tensor, blocks: list[Block] | None) -> Tensor:
    """Gradients by weights: (K, in, out) and (K, out, B) to (K, in, B)."""
    if blocks is None:
        return torch.bmm(weight, gradient)
    product = gradient.new_zeros(len(weight), weight.shape[1], gradient.shape[2])
    for rows, columns in blocks:
        product[:, rows].baddbmm_(weight[:, rows, columns], gradient[:, columns])
    return product


def _outer_product(
    values: Tensor, gradient: Tensor, mask: Tensor | None, blocks: list[Block] | None
) -> Tensor:
    """Values by gradients: (K, in, B), (K, out, B) to (K, in, out), zero where masked."""
    if blocks is None:
        product = torch.bmm(values, gradient.mT)
        return product if mask is None else product.mul_(mask)
    assert mask is not None
    product = values.new_zeros(len(values), values.shape[1], gradient.shape[1])
    for rows, columns in blocks:
        part = torch.bmm(values[:, rows], gradient[:, columns].mT)
        torch.mul(part, mask[rows, columns], out=product[:, rows, columns])
    return product
