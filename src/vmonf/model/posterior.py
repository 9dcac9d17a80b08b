"""The variational posterior q(c given x)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PosteriorNetwork(nn.Module):
    """A multilayer perceptron from a standardised row to K logits.

    Source: Pires & Figueiredo, "Variational Mixture of Normalizing Flows" (2020), section 3.

    Parameters
    ----------
    n_features, n_components : int
    hidden : sequence of int
        Widths of the hidden layers.
    generator : torch.Generator, optional
        Draws the initial weights.
    """

    def __init__(
        self,
        n_features: int,
        n_components: int,
        hidden: Sequence[int],
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = n_features
        for n_units in (*hidden, n_components):
            linear = nn.utils.skip_init(nn.Linear, width, n_units)
            bound = 1 / math.sqrt(width)
            for parameter in (linear.weight, linear.bias):
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
            layers += [linear, nn.ReLU()]
            width = n_units
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) to logits (B, K)."""
        logits: Tensor = self.layers(x)
        return logits
