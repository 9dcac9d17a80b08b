"""K perceptrons side by side: the products of a training step, forward and backward.

Values lie in memory features first, rows last (see `Transform`), so that whatever is done to
each value runs along rows, however few the features. Parameters are all weights (K, in, out),
then all biases (K, 1, out).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vmonf.flows.transform import soft_clip

#: Inputs are soft-clipped to +-this; see `ComponentMLP`.
INPUT_LIMIT = 10.0
#: Rows and columns of a weight; what these columns have outside of the rows is zero.
Block = tuple[slice, slice]
#: Columns of a block. Narrower ones skip more of a staircase, but are slower to multiply.
BLOCK_WIDTH = 128
#: Multiply-adds from which a CPU is faster with one product after the other than with a batch.
LARGE_PRODUCT = 2**24
#: Columns up to which a product of long rows is faster made lying on its side.
FEW_COLUMNS = 4


class Wiring(NamedTuple):
    """What is fixed of a perceptron, layer by layer.

    Weights are zero where their mask (in, out) is; the mask makes their gradient so too.
    """

    masks: Sequence[Tensor | None]
    blocks: Sequence[list[Block] | None]


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


def perceptrons(x: Tensor, wiring: Wiring, parameters: Sequence[Tensor]) -> Tensor:
    """Linear layers with ReLU between, for autograd: (K, B, in) to (K, B, out)."""
    n_layers = len(wiring.masks)
    values = soft_clip(x, INPUT_LIMIT)
    for layer, mask in enumerate(wiring.masks):
        weight = parameters[layer] if mask is None else parameters[layer] * mask
        values = torch.baddbmm(parameters[n_layers + layer], values, weight)
        if layer + 1 < n_layers:
            values = values.relu()
    return values


def forward_pass(
    x: Tensor, wiring: Wiring, parameters: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The same, features first: (K, in, B) to (K, out, B), and what each layer was given.

    Autograd would keep, fill and read more large tensors than these: here a layer's bias and
    ReLU are done in place, and so is the gradient of the ReLU.
    """
    n_layers = len(wiring.masks)
    softness = x.abs().mul_(1 / INPUT_LIMIT).add_(1)
    values = torch.div(x, softness, out=softness)
    inputs = []
    for layer, blocks in enumerate(wiring.blocks):
        inputs.append(values)
        values = _product(parameters[layer], values, blocks)
        values.add_(parameters[n_layers + layer].mT)
        if layer + 1 < n_layers:
            values.relu_()
    return values, inputs


def backward_pass(
    gradient: Tensor, inputs: Sequence[Tensor], wiring: Wiring, parameters: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Gradients of x (K, in, B) and of the parameters, from that of the output (K, out, B)."""
    n_layers = len(inputs)
    weight_gradients: list[Tensor] = []
    bias_gradients: list[Tensor] = []
    for layer in reversed(range(n_layers)):
        values, mask, blocks = inputs[layer], wiring.masks[layer], wiring.blocks[layer]
        weight_gradients.append(_outer_product(values, gradient, mask, blocks))
        bias_gradients.append(gradient.sum(dim=-1).unsqueeze(1))
        gradient = _product_back(parameters[layer], gradient, blocks)
        if layer > 0:
            torch.ops.aten.threshold_backward(gradient, values, 0, grad_input=gradient)
    # The clip's slope (1 + |x| / limit)^-2, from the clipped values.
    slope = torch.rsub(inputs[0].abs(), 1, alpha=1 / INPUT_LIMIT)
    gradient.mul_(slope).mul_(slope)
    return gradient, [*reversed(weight_gradients), *reversed(bias_gradients)]


def _product(weight: Tensor, values: Tensor, blocks: list[Block] | None) -> Tensor:
    """Values by weights: (K, in, out) and (K, in, B) to (K, out, B)."""
    product = values.new_empty(len(weight), weight.shape[2], values.shape[2])
    if blocks is None:
        return _multiply(weight.mT, values, out=product)
    for rows, columns in blocks:
        _multiply(weight[:, rows, columns].mT, values[:, rows], out=product[:, columns])
    return product


def _product_back(weight: Tensor, gradient: Tensor, blocks: list[Block] | None) -> Tensor:
    """Gradients by weights: (K, in, out) and (K, out, B) to (K, in, B)."""
    if blocks is None:
        product = gradient.new_empty(len(weight), weight.shape[1], gradient.shape[2])
        return _multiply(weight, gradient, out=product)
    product = gradient.new_zeros(len(weight), weight.shape[1], gradient.shape[2])
    for rows, columns in blocks:
        _multiply(weight[:, rows, columns], gradient[:, columns], out=product[:, rows], add=True)
    return product


def _outer_product(
    values: Tensor, gradient: Tensor, mask: Tensor | None, blocks: list[Block] | None
) -> Tensor:
    """Values by gradients: (K, in, B), (K, out, B) to (K, in, out), zero where masked."""
    n_inputs, n_outputs = values.shape[1], gradient.shape[1]
    if blocks is not None:
        assert mask is not None
        product = values.new_empty(len(values), n_inputs, n_outputs)
        for rows, columns in blocks:
            product[:, : rows.start, columns] = 0
            product[:, rows.stop :, columns] = 0
            part = product[:, rows, columns]
            _multiply(values[:, rows], gradient[:, columns].mT, out=part)
            part.mul_(mask[rows, columns])
        return product
    if n_outputs <= FEW_COLUMNS:
        product = torch.bmm(gradient, values.mT).mT
    else:
        product = values.new_empty(len(values), n_inputs, n_outputs)
        _multiply(values, gradient.mT, out=product)
    return product if mask is None else product.mul_(mask)


def _multiply(a: Tensor, b: Tensor, *, out: Tensor, add: bool = False) -> Tensor:
    """Batched matrix product, to `out` or added to it."""
    is_large = a.shape[1] * a.shape[2] * b.shape[2] >= LARGE_PRODUCT
    if a.device.type != "cpu" or not is_large:
        return out.baddbmm_(a, b) if add else torch.bmm(a, b, out=out)
    for one, other, product in zip(a, b, out, strict=True):
        torch.addmm(product, one, other, beta=int(add), out=product)
    return out
