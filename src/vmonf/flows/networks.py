"""Multilayer perceptrons, one for each of K components, evaluated as one."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vmonf.flows.bijections import soft_clip

INPUT_LIMIT = 10.0


class ComponentLinear(nn.Module):
    """K linear layers side by side: (K, B, in) to (K, B, out) by one batched product.

    Weights lie as (K, in, out), so that no transpose is needed at a step.
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
        bound = 1 / math.sqrt(max(n_inputs, 1))
        self.weight = nn.Parameter(
            (torch.rand(n_components, n_inputs, n_outputs, generator=generator) * 2 - 1) * bound
        )
        self.bias = nn.Parameter(
            (torch.rand(n_components, 1, n_outputs, generator=generator) * 2 - 1) * bound
        )
        self.mask: Tensor | None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor, columns: Tensor | None = None) -> Tensor:
        """Apply the layers; with `columns`, compute those outputs alone."""
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        mask = self.mask
        if columns is not None:
            weight, bias = weight[:, :, columns], bias[:, :, columns]
            mask = None if mask is None else mask[:, columns]
        if mask is not None:
            weight = weight * mask
        return torch.baddbmm(bias, x, weight)

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

    def forward(self, x: Tensor, columns: Tensor | None = None) -> Tensor:
        """Map (K, B, in) to (K, B, out); with `columns`, to those outputs alone."""
        x = soft_clip(x, INPUT_LIMIT)
        *hidden, last = (cast(ComponentLinear, layer) for layer in self.layers)
        for layer in hidden:
            x = functional.relu(layer(x))
        return cast(Tensor, last(x, columns))


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
