"""K large perceptrons side by side: products skip masked blocks, and work is done in place.

Values lie in memory with features first and rows last; see `Transform`. Parameters are all
weights (K, in, out), then all biases (K, 1, out).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vmonf.flows.kernels.function import Kernel, Tensors

#: Rows and columns of a weight: outside of the rows, these columns are zero.
Block = tuple[slice, slice]
#: Columns of a block. Narrower blocks skip more zeros, but are slower to multiply.
BLOCK_WIDTH = 128


class LargePerceptrons(Kernel):
    """Maps x (K, B, in) and the parameters to (K, B, out).

    Biases are added, and ReLUs and their gradients are taken, in place: autograd would keep,
    fill and read more large tensors.

    Parameters
    ----------
    plain : callable
        The same function, written for autograd.
    masks : sequence of Tensor of shape (in, out), or None
        One for each layer: weights are zero where the mask is zero, and so is their gradient.
    blocks : sequence of list of Block, or None
        One for each layer: the blocks that cover the mask, if there are any.
    input_limit : float
        Inputs are soft-clipped to +-this.
    """

    n_outputs = 1

    def __init__(
        self,
        plain: Callable[..., Tensor],
        masks: Sequence[Tensor | None],
        blocks: Sequence[list[Block] | None],
        input_limit: float,
    ) -> None:
        self._plain = plain
        self.masks = masks
        self.blocks = blocks
        self.input_limit = input_limit

    def plain(self, *tensors: Tensor) -> Tensors:
        """See `Kernel.plain`."""
        return (self._plain(*tensors),)

    def evaluate(self, *tensors: Tensor) -> tuple[Tensors, Tensors]:
        """See `Kernel.evaluate`; the inputs of all layers are kept."""
        x, *parameters = tensors
        n_layers = len(self.masks)
        softness = x.mT.abs().mul_(1 / self.input_limit).add_(1)
        values = torch.div(x.mT, softness, out=softness)
        inputs = []
        for layer, blocks in enumerate(self.blocks):
            inputs.append(values)
            values = _product(parameters[layer], values, blocks)
            values.add_(parameters[n_layers + layer].mT)
            if layer + 1 < n_layers:
                values.relu_()
        return (values.mT,), tuple(inputs)

    def gradients(
        self, tensors: Sequence[Tensor], kept: Sequence[Tensor], grad_outputs: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """See `Kernel.gradients`."""
        _, *parameters = tensors
        gradient = grad_outputs[0].mT
        of_weights: list[Tensor] = []
        of_biases: list[Tensor] = []
        for layer in reversed(range(len(kept))):
            values, mask, blocks = kept[layer], self.masks[layer], self.blocks[layer]
            of_weights.append(_outer_product(values, gradient, mask, blocks))
            of_biases.append(gradient.sum(dim=-1).unsqueeze(1))
            gradient = _product_back(parameters[layer], gradient, blocks)
            if layer > 0:
                gradient.mul_(values.sign())  # values are outputs of a ReLU: signs are 0 and 1
        # The slope of the soft clip is (1 + |x| / limit)^-2 = (1 - |clipped x| / limit)^2.
        slope = torch.rsub(kept[0].abs(), 1, alpha=1 / self.input_limit)
        gradient.mul_(slope).mul_(slope)
        return gradient.mT, *reversed(of_weights), *reversed(of_biases)


def is_large(shape: Sequence[int]) -> bool:
    """Whether a layer of shape (in, out) is large enough for blocks and for the kernel."""
    return min(shape) >= 2 * BLOCK_WIDTH


def blocks_of(mask: Tensor | None) -> list[Block] | None:
    """Cut a mask of shape (in, out) into blocks of columns, each with the rows that it uses.

    In an autoregressive network, each output uses the first inputs up to some number, which
    increases with the output: the blocks then skip nearly half of a large mask. A small mask has
    no blocks.
    """
    if mask is None or not is_large(mask.shape):
        return None
    blocks = []
    for start in range(0, mask.shape[1], BLOCK_WIDTH):
        columns = slice(start, min(start + BLOCK_WIDTH, mask.shape[1]))
        seen = mask[:, columns].any(dim=1).nonzero().flatten().tolist()
        rows = slice(seen[0], seen[-1] + 1) if seen else slice(0, 0)
        blocks.append((rows, columns))
    return blocks


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
    """Values by gradients: (K, in, B) and (K, out, B) to (K, in, out), zero where masked."""
    if blocks is None or mask is None:
        product = torch.bmm(values, gradient.mT)
        return product if mask is None else product.mul_(mask)
    product = values.new_zeros(len(values), values.shape[1], gradient.shape[1])
    for rows, columns in blocks:
        part = torch.bmm(values[:, rows], gradient[:, columns].mT)
        torch.mul(part, mask[rows, columns], out=product[:, rows, columns])
    return product
