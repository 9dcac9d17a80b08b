"""The base of coupling and autoregressive layers: a network computes the bijections."""

import torch
from torch import Tensor

from vmonf.flows.bijections import Bijection
from vmonf.flows.networks import ComponentMLP
from vmonf.flows.transform import Transform


class Conditioned(Transform):
    """A network reads some features, and computes the bijections of some features.

    Parameters
    ----------
    given, moved : slice
        The features that the network reads, and the features that are transformed: two parts
        next to each other, or both all of the features.
    bijection : Bijection
        What is applied to each transformed feature.
    network : ComponentMLP
        Computes the parameters of the bijections.
    """

    def __init__(
        self, given: slice, moved: slice, bijection: Bijection, network: ComponentMLP
    ) -> None:
        super().__init__()
        self.given = given
        self.moved = moved
        self.bijection = bijection
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Transform the features all at once; see `Transform.forward`."""
        given = x[..., self.given]
        z, log_slopes = self.bijection.forward(x[..., self.moved], self.network(given))
        return self.join(given, z), log_slopes.sum(dim=-1)

    def join(self, given: Tensor, moved: Tensor) -> Tensor:
        """All features, from those that are passed on and those that are transformed."""
        if self.given == self.moved:
            return moved
        halves = (given, moved) if self.moved.start > 0 else (moved, given)
        # In memory features come before rows; see `Transform`.
        return torch.cat([half.mT for half in halves], dim=-2).mT

    @property
    def is_identity(self) -> bool:
        """With all parameters zero a bijection is the identity, as in a kept Gaussian mixture."""
        return self.network.is_zero

    @property
    def n_free_parameters(self) -> int:
        """Weights that are not masked, and biases."""
        return self.network.n_free_parameters

    def randomise(self, generator: torch.Generator | None = None) -> None:
        """Draw the outputs of the network at random; see `Transform.randomise`."""
        self.network.randomise_outputs(generator)
