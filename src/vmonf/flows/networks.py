"""Multilayer perceptrons, one for each of K components, evaluated as one."""

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from vmonf.flows.kernels.function import call
from vmonf.flows.kernels.perceptron import LargePerceptrons, blocks_of, is_large
from vmonf.flows.transform import soft_clip

#: Inputs of a perceptron are soft-clipped to +-this; see `ComponentMLP`.
INPUT_LIMIT = 10.0


class ComponentLinear(nn.Module):
    """The weights of K linear layers: (K, in, out), and biases (K, 1, out).

    Where a mask is 0, weights are 0 from the start and their gradients are 0, so that they stay
    0. No product with the mask is then needed where no gradient is asked for.
    """

    def __init__(
        self,
        n_components: int,
        n_inputs: int,
        n_outputs: int,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_components, n_inputs, n_outputs))
        self.bias = nn.Parameter(torch.empty(n_components, 1, n_outputs))
        self.mask: Tensor | None
        self.register_buffer("mask", mask, persistent=False)
        self.blocks = blocks_of(mask)
        self.randomise(generator)

    @torch.no_grad()
    def randomise(self, generator: torch.Generator | None = None) -> None:
        """Draw weights and biases, uniform as in torch's own linear layers."""
        bound = 1 / math.sqrt(max(self.weight.shape[1], 1))
        for parameter in (self.weight, self.bias):
            drawn = torch.rand(parameter.shape, generator=generator)
            parameter.copy_((drawn * 2 - 1) * bound)
        self.apply_mask()

    @torch.no_grad()
    def apply_mask(self) -> None:
        """Set weights to 0 where the mask is 0; for weights that were set from outside."""
        if self.mask is not None:
            self.weight.mul_(self.mask)

    def zero(self) -> None:
        """Make every output zero."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class ComponentMLP(nn.Module):
    """K perceptrons side by side. At first all their outputs are zero.

    Inputs are soft-clipped to +-10, far beyond whitened data. The outputs of a network are then
    bounded, however far a row is. Without this, deep affine flows overflow float32 a thousand
    standard deviations from the mean.

    Parameters
    ----------
    n_components, n_inputs, n_outputs : int
        With no inputs, the outputs are learned constants of each component.
    hidden : sequence of int
        Widths of the hidden layers.
    masks : sequence of Tensor of shape (in, out), optional
        One for each layer, 1 where there is a connection; see `autoregressive_masks`.
    generator : torch.Generator, optional
        Draws the initial weights of the hidden layers.
    """

    def __init__(
        self,
        n_components: int,
        n_inputs: int,
        n_outputs: int,
        hidden: Sequence[int],
        *,
        masks: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        widths = [n_inputs, *hidden, n_outputs]
        self.layers = nn.ModuleList(
            ComponentLinear(
                n_components,
                n_in,
                n_out,
                mask=None if masks is None else masks[index],
                generator=generator,
            )
            for index, (n_in, n_out) in enumerate(pairwise(widths))
        )
        cast(ComponentLinear, self.layers[-1]).zero()  # so that a fresh flow is the identity

    def randomise_outputs(self, generator: torch.Generator | None = None) -> None:
        """Draw the last layer like the others, so that the networks of the components differ."""
        last = cast(ComponentLinear, self.layers[-1])
        last.randomise(generator)

    @property
    def is_zero(self) -> bool:
        """Whether the outputs are zero for all inputs, since the last layer is zero."""
        last = cast(ComponentLinear, self.layers[-1])
        return not bool(last.weight.any()) and not bool(last.bias.any())

    @property
    def n_free_parameters(self) -> int:
        """Weights that are not masked, and biases, over all components."""
        n_free = 0
        for module in self.layers:
            layer = cast(ComponentLinear, module)
            n_weights = layer.weight.numel()
            if layer.mask is not None:
                n_weights = len(layer.weight) * int(layer.mask.count_nonzero())
            n_free += n_weights + layer.bias.numel()
        return n_free

    def forward(self, x: Tensor, columns: Tensor | None = None) -> Tensor:
        """Map (K, B, in) to (K, B, out); with `columns`, to those outputs alone."""
        layers = [cast(ComponentLinear, layer) for layer in self.layers]
        masks = [layer.mask for layer in layers]
        weights: list[Tensor] = [layer.weight for layer in layers]
        biases: list[Tensor] = [layer.bias for layer in layers]
        if columns is not None:
            mask = masks[-1]
            masks[-1] = None if mask is None else mask[:, columns]
            weights[-1], biases[-1] = weights[-1][..., columns], biases[-1][..., columns]
        plain = partial(perceptrons, masks)
        blocks = [layer.blocks for layer in layers]
        if columns is None and any(is_large(weight.shape[1:]) for weight in weights):
            kernel = LargePerceptrons(plain, masks, blocks, INPUT_LIMIT)
            return call(kernel, x, *weights, *biases)[0]
        return plain(x, *weights, *biases)


def perceptrons(masks: Sequence[Tensor | None], x: Tensor, *parameters: Tensor) -> Tensor:
    """Linear layers with ReLU between them: (K, B, in) to (K, B, out).

    Parameters
    ----------
    masks : sequence of Tensor of shape (in, out), or None
        One for each layer.
    x : Tensor of shape (K, B, in)
    parameters : Tensor
        All weights (K, in, out), then all biases (K, 1, out).
    """
    n_layers = len(masks)
    values = soft_clip(x.mT, INPUT_LIMIT)  # in memory features come before rows
    for layer, mask in enumerate(masks):
        weight, bias = parameters[layer], parameters[n_layers + layer]
        if mask is not None and torch.is_grad_enabled():
            weight = weight * mask  # changes no value, but makes the gradient 0
        values = torch.baddbmm(bias.mT, weight.mT, values)
        if layer + 1 < n_layers:
            values = values.relu_()
    return values.mT


def autoregressive_masks(degrees: Tensor, hidden: Sequence[int], outputs: Tensor) -> list[Tensor]:
    """Masks that let output j depend only on the inputs of smaller degree.

    Source: Germain et al., "MADE" (2015), section 4. Hidden degrees are spread evenly, so that
    every input has an effect even where a layer is narrower than the number of features.

    Parameters
    ----------
    degrees : Tensor of shape (D,)
        A permutation of 1..D: the place of each feature in the order.
    hidden : sequence of int
        Widths of the hidden layers.
    outputs : Tensor of shape (n_outputs,)
        The feature each output belongs to.
    """
    n_features = len(degrees)
    below = degrees
    masks = []
    for width in hidden:
        # From D - 1, the degree of a unit that depends on all features but the last, down to 1.
        # With a single feature all degrees are 0: the units depend on no feature.
        last = n_features - 1
        here = torch.linspace(last, min(1, last), width).round().long()
        masks.append((here[None, :] >= below[:, None]).float())
        below = here
    masks.append((degrees[outputs][None, :] > below[:, None]).float())
    return masks
