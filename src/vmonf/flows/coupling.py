"""Coupling layers: one part of the features transforms the other."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vmonf.flows.bijections import Bijection
from vmonf.flows.conditioned import Layer, join, transform
from vmonf.flows.networks import ComponentMLP
from vmonf.flows.transform import Transform


class Coupling(Transform):
    """Features are cut in two; one part passes and gives the other its bijections.

    A single feature has nothing to pass: its bijection then has constant parameters.

    Source: Dinh et al., "Density estimation using Real NVP" (2017), section 3.2.

    Parameters
    ----------
    n_components, n_features : int
    bijection : Bijection
        What is applied to each transformed feature.
    hidden : sequence of int
        Hidden widths of the network that computes the bijection's parameters.
    reverse : bool
        Transform the first part instead of the second.
    generator : torch.Generator, optional
        Draws the initial weights.
    """

    def __init__(
        self,
        n_components: int,
        n_features: int,
        bijection: Bijection,
        hidden: Sequence[int],
        *,
        reverse: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.bijection = bijection
        n_first = n_features // 2
        halves = slice(0, n_first), slice(n_first, n_features)
        self.reverse = reverse and n_features > 1  # a single feature has none to pass
        self.given, self.moved = halves[::-1] if self.reverse else halves
        n_given, n_moved = (half.stop - half.start for half in (self.given, self.moved))
        self.network = ComponentMLP(
            n_components, n_given, n_moved * bijection.n_parameters, hidden, generator=generator
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Transform one part; see `Transform.forward`."""
        return transform(x, self._layer, self.network.tensors)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo it: the passed part is still there; see `Transform.inverse`."""
        given = z[..., self.given]
        moved, log_slopes = self.bijection.inverse(z[..., self.moved], self.network(given))
        return join(given, moved, self._layer), log_slopes.sum(dim=-1)

    @property
    def _layer(self) -> Layer:
        return Layer(self.given, self.moved, self.bijection, self.network.wiring)
