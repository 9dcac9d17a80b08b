"""Coupling layers: one part of the features transforms the other."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vmonf.flows.bijections import Bijection
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
        self.reverse = reverse and n_features > 1
        self.n_first = n_features // 2
        n_second = n_features - self.n_first
        n_pass, n_moved = (n_second, self.n_first) if self.reverse else (self.n_first, n_second)
        self.network = ComponentMLP(
            n_components, n_pass, n_moved * bijection.n_parameters, hidden, generator=generator
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Transform one part; see `Transform.forward`."""
        passed, moved = self._split(x)
        moved, log_slopes = self.bijection.forward(moved, self.network(passed))
        return self._join(passed, moved), log_slopes.sum(dim=-1)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo it: the passed part is still there; see `Transform.inverse`."""
        passed, moved = self._split(z)
        moved, log_slopes = self.bijection.inverse(moved, self.network(passed))
        return self._join(passed, moved), log_slopes.sum(dim=-1)

    def _split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        first, second = values[..., : self.n_first], values[..., self.n_first :]
        return (second, first) if self.reverse else (first, second)

    def _join(self, passed: Tensor, moved: Tensor) -> Tensor:
        parts = (moved, passed) if self.reverse else (passed, moved)
        return torch.cat([part.mT for part in parts], dim=-2).mT
