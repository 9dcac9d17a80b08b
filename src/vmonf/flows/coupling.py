"""Coupling layers: half of the features determine how the other half is transformed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vmonf.flows.bijections import Bijection
from vmonf.flows.conditioned import Conditioned
from vmonf.flows.networks import ComponentMLP


class Coupling(Conditioned):
    """Half of the features are unchanged; from them a network computes the others' bijections.

    With a single feature there is no such half: the parameters of its bijection are constants.

    Source: Dinh et al., "Density estimation using Real NVP" (2017), section 3.2.

    Parameters
    ----------
    n_components, n_features : int
    bijection : Bijection
        What is applied to each transformed feature.
    hidden : sequence of int
        Hidden widths of the network that computes the parameters of the bijections.
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
        n_first = n_features // 2
        halves = slice(0, n_first), slice(n_first, n_features)
        reverse = reverse and n_features > 1  # the first part of a single feature is empty
        given, moved = halves[::-1] if reverse else halves
        n_given, n_moved = (half.stop - half.start for half in (given, moved))
        network = ComponentMLP(
            n_components, n_given, n_moved * bijection.n_parameters, hidden, generator=generator
        )
        super().__init__(given, moved, bijection, network)
        self.reverse = reverse

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo the bijections, from the part that was passed on; see `Transform.inverse`."""
        given = z[..., self.given]
        moved, log_slopes = self.bijection.inverse(z[..., self.moved], self.network(given))
        return self.join(given, moved), log_slopes.sum(dim=-1)
