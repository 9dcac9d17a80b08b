"""K perceptrons side by side: their products in a training step, forward and backward.

Values lie in memory with features first and rows last (see `Transform`), so that elementwise
arithmetic runs along the rows even where there are few features. Parameters are all weights
(K, in, out), then all biases (K, 1, out).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

#: Rows and columns of a weight: outside of the rows, these columns are zero.
Block = tuple[slice, slice]
#: Columns of a block. Narrower blocks skip more zeros, but are slower to multiply.
BLOCK_WIDTH = 128
#: Number of multiply-adds from which a CPU is faster with single products than with a batch.
LARGE_PRODUCT = 2**24


class Wiring(NamedTuple):
    """What is fixed in a perceptron.

    Attributes
    ----------
    masks : sequence of Tensor of shape (in, out), or None
        For each layer. Weights are zero where the mask is zero, and so is their gradient.
    blocks : sequence of list of Block, or None
        For each layer: the blocks that cover the mask, if the products are made in blocks.
    input_limit : float
        Inputs are soft-clipped to +-this.
    """

    masks: Sequence[Tensor | None]
    blocks: Sequence[list[Block] | None]
    input_limit: float


def blocks_of(mask: Tensor | None) -> list[Block] | None:
    """Cut a mask of shape (in, out) into blocks of columns, each with the rows that it uses.

    In an autoregressive network, each output uses the first inputs up to some number, which
    increases with the output: the blocks then skip nearly half of a large mask. A small mask has
    no blocks.
    """
    if mask is None or min(mask.shape) < 2 * BLOCK_WIDTH:
        return None
    blocks = []
    for start in range(0, mask.shape[1], BLOCK_WIDTH):
        columns = slice(start, min(start + BLOCK_WIDTH, mask.shape[1]))
        seen = mask[:, columns].any(dim=1).nonzero().flatten().tolist()
        rows = slice(seen[0], seen[-1] + 1) if seen else slice(0, 0)
        blocks.append((rows, columns))
    return blocks


def forward_pass(
    x: Tensor, wiring: Wiring, parameters: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Map x (K, in, B) to (K, out, B); returns this and the input of each layer.

    Biases are added, and ReLUs and their gradients are taken, in place: autograd would keep,
    fill and read more large tensors.
    """
    n_layers = len(wiring.masks)
    softness = x.abs().mul_(1 / wiring.input_limit).add_(1)
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
    """Gradients of x (K, in, B) and of the parameters, given that of the output (K, out, B)."""
    n_layers = len(inputs)
    weight_gradients: list[Tensor] = []
    bias_gradients: list[Tensor] = []
    for layer in reversed(range(n_layers)):
        values, mask, blocks = inputs[layer], wiring.masks[layer], wiring.blocks[layer]
        weight_gradients.append(_outer_product(values, gradient, mask, blocks))
        bias_gradients.append(gradient.sum(dim=-1).unsqueeze(1))
        gradient = _product_back(parameters[layer], gradient, blocks)
        if layer > 0:
            gradient.mul_(values.sign())  # values are outputs of a ReLU: signs are 0 and 1
    # The slope of the soft clip is (1 + |x| / limit)^-2 = (1 - |clipped x| / limit)^2.
    slope = torch.rsub(inputs[0].abs(), 1, alpha=1 / wiring.input_limit)
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
    """Values by gradients: (K, in, B) and (K, out, B) to (K, in, out), zero where masked."""
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
    product = values.new_empty(len(values), n_inputs, n_outputs)
    _multiply(values, gradient.mT, out=product)
    return product if mask is None else product.mul_(mask)


def _multiply(a: Tensor, b: Tensor, *, out: Tensor, add: bool = False) -> Tensor:
    """Write the batched matrix product to `out`, or add it to `out`."""
    is_large = a.shape[1] * a.shape[2] * b.shape[2] >= LARGE_PRODUCT
    if a.device.type != "cpu" or not is_large:
        return out.baddbmm_(a, b) if add else torch.bmm(a, b, out=out)
    for one, other, product in zip(a, b, out, strict=True):
        torch.addmm(product, one, other, beta=int(add), out=product)
    return out
