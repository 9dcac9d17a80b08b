"""Masked autoregressive layers: every feature is transformed given the features before it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vmonf.flows.bijections import Bijection
from vmonf.flows.conditioned import Conditioned
from vmonf.flows.networks import ComponentMLP, autoregressive_masks


class MaskedAutoregressive(Conditioned):
    """Feature i gets a bijection whose parameters depend on the features before it.

    Data is mapped to base in one pass of the network, base to data in one pass per feature.

    Source: Papamakarios et al., "Masked Autoregressive Flow" (2017), section 3.1.

    Parameters
    ----------
    n_components, n_features : int
    bijection : Bijection
        What is applied to each feature.
    hidden : sequence of int
        Hidden widths of the masked network.
    reverse : bool
        Take the features in reverse order.
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
        order = list(range(n_features))
        if reverse:
            order.reverse()
        degrees = torch.tensor(order) + 1  # both orders are their own inverses
        owners = bijection.feature_of_parameter(n_features)
        network = ComponentMLP(
            n_components,
            n_features,
            n_features * bijection.n_parameters,
            hidden,
            masks=autoregressive_masks(degrees, hidden, owners),
            generator=generator,
        )
        super().__init__(slice(None), slice(None), bijection, network)
        self.order = order
        self._columns = [(owners == feature).nonzero().squeeze(-1) for feature in range(n_features)]

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Recover one feature after the other; see `Transform.inverse`."""
        x = torch.zeros_like(z)
        log_det = z.new_zeros(z.shape[:2])
        for feature in self.order:
            parameters = self.network(x, self._columns[feature].to(z.device))
            value, log_slope = self.bijection.inverse(z[..., feature : feature + 1], parameters)
            x = x.select_scatter(value.squeeze(-1), dim=-1, index=feature)
            log_det = log_det + log_slope.squeeze(-1)
        return x, log_det
