"""The variational posterior q(c given x)."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vmonf.parameters import ParameterError, Specification, check_widths


@dataclass(frozen=True)
class PosteriorMLP(Specification):
    """The posterior as a multilayer perceptron.

    Source: Pires & Figueiredo, "Variational Mixture of Normalizing Flows" (2020), section 3.

    Attributes
    ----------
    hidden : sequence of int
        Widths of the hidden layers.
    """

    hidden: Sequence[int] = (64, 64)

    def check(self) -> None:
        """Raise `ParameterError` if a value is not valid."""
        check_widths("hidden", self.hidden)

    def network(
        self, n_features: int, n_components: int, generator: torch.Generator | None = None
    ) -> nn.Module:
        """A new network from standardised rows (B, D) to logits (B, K)."""
        return PosteriorNetwork(n_features, n_components, self.hidden, generator=generator)


#: The names that the parameter `posterior` of `FlowMixture` accepts.
POSTERIORS: dict[str, PosteriorMLP] = {"mlp": PosteriorMLP()}


def posterior_of(posterior: object) -> PosteriorMLP:
    """The specification that a name stands for, or the specification itself.

    Raises
    ------
    ParameterError
        If there is no such name, or the object has no method `network` or `get_params`.
    """
    if isinstance(posterior, str) and posterior in POSTERIORS:
        return POSTERIORS[posterior]
    is_specification = hasattr(posterior, "network") and hasattr(posterior, "get_params")
    if is_specification and not isinstance(posterior, type):
        return posterior  # type: ignore[return-value]
    raise ParameterError(
        "posterior",
        f"={posterior!r} is not known: choose one of {', '.join(POSTERIORS)}, or a "
        "specification such as PosteriorMLP(hidden=(64, 64)).",
    )


class _Linear(nn.Linear):
    """A linear layer whose weights the network draws, from its own generator.

    `torch.nn.utils.skip_init` imports sympy, which takes half a second.
    """

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class PosteriorNetwork(nn.Module):
    """A multilayer perceptron from standardised rows to K logits.

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
            linear = _Linear(width, n_units)
            bound = 1 / math.sqrt(width)
            for parameter in (linear.weight, linear.bias):
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
            layers += [linear, nn.ReLU()]
            width = n_units
        self.layers = nn.Sequential(*layers[:-1])

    def only(self, components: Tensor) -> PosteriorNetwork:
        """A copy with the logits of these components alone, in this order: C indices, int64."""
        network = copy.deepcopy(self)
        last = cast(nn.Linear, network.layers[-1])
        last.weight = nn.Parameter(last.weight.detach()[components].clone())
        last.bias = nn.Parameter(last.bias.detach()[components].clone())
        last.out_features = len(components)
        return network

    def forward(self, x: Tensor) -> Tensor:
        """Logits of standardised rows: (B, D) to (B, K)."""
        logits: Tensor = self.layers(x)
        return logits
