"""Multilayer perceptrons, one for each of K components, evaluated as one."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from vmonf.flows.perceptron import BLOCK_WIDTH, Wiring, blocks_of, forward_pass, perceptrons
from vmonf.flows.transform import in_function_transform


class ComponentLinear(nn.Module):
    """The weights of K linear layers: (K, in, out), and biases (K, 1, out).

    Where a mask is 0, weights are 0 from the start and their gradient is 0, so that they stay
    so: a mask costs a training step next to nothing, and the inverse nothing.
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
        is_large = mask is not None and min(mask.shape) >= 2 * BLOCK_WIDTH
        self.blocks = blocks_of(mask) if mask is not None and is_large else None
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
        """Make weights 0 where the mask is: for weights that were set from elsewhere."""
        if self.mask is not None:
            self.weight.mul_(self.mask)

    def zero(self) -> None:
        """Make every output zero."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class ComponentMLP(nn.Module):
    """K perceptrons side by side, whose outputs are all zero at first.

    Inputs are soft-clipped to +-10, far outside of whitened data: what a network says of a far
    row is then bounded, and so is what layers on layers make of it. Without that, deep affine
    flows overflow float32 at a thousand deviations.

    Parameters
    ----------
    n_components, n_inputs, n_outputs : int
        With no inputs the outputs are constants, learned per component.
    hidden : sequence of int
        Widths of the hidden layers.
    masks : sequence of Tensor of shape (in, out), optional
        One a layer, 1 where a connection may be; see `autoregressive_masks`.
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
        """Draw the last layer as the others are, so that networks of components differ."""
        last = cast(ComponentLinear, self.layers[-1])
        last.randomise(generator)

    @property
    def wiring(self) -> Wiring:
        """Masks and blocks of the layers."""
        layers = [cast(ComponentLinear, layer) for layer in self.layers]
        return Wiring([layer.mask for layer in layers], [layer.blocks for layer in layers])

    @property
    def tensors(self) -> list[Tensor]:
        """All weights, then all biases; inside of a `functional_call` those that it puts in."""
        return [getattr(layer, name) for name in ("weight", "bias") for layer in self.layers]

    def forward(self, x: Tensor, columns: Tensor | None = None) -> Tensor:
        """Map (K, B, in) to (K, B, out); with `columns`, to those outputs alone."""
        wiring, tensors = self.wiring, self.tensors
        if columns is not None:
            n_layers, mask = len(self.layers), wiring.masks[-1]
            tensors[n_layers - 1] = tensors[n_layers - 1][..., columns]
            tensors[-1] = tensors[-1][..., columns]
            wiring = Wiring(
                [*wiring.masks[:-1], None if mask is None else mask[:, columns]],
                [*wiring.blocks[:-1], None],
            )
        if torch.is_grad_enabled() or in_function_transform():
            return perceptrons(x, wiring, tensors)
        values, _ = forward_pass(x.mT, wiring, tensors)
        return values.mT


def autoregressive_masks(degrees: Tensor, hidden: Sequence[int], outputs: Tensor) -> list[Tensor]:
    """Masks that let output j see only the inputs of smaller degree.

    Source: Germain et al., "MADE" (2015), section 4. Hidden degrees are spread evenly, so
    that every input is heard even where a layer is narrower than the number of features.

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
        # From D-1, which hears all but the last feature, down to 1; or 0 for a single feature,
        # since a unit of degree 0 hears nothing.
        last = n_features - 1
        here = torch.linspace(last, min(1, last), width).round().long()
        masks.append((here[None, :] >= below[:, None]).float())
        below = here
    masks.append((degrees[outputs][None, :] > below[:, None]).float())
    return masks
