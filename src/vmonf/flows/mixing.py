"""Mixing of the features between layers, so that each feature comes to depend on all others."""

import torch
from torch import Tensor, nn

from vmonf.flows.transform import Transform


class Permutation(Transform):
    """A fixed reordering of the features, the same for all components."""

    order: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.register_buffer("order", order)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reorder; see `Transform.forward`."""
        return x.mT.index_select(-2, self.order).mT, x.new_zeros(x.shape[:2])

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Reorder back; see `Transform.inverse`."""
        return z.mT.index_select(-2, self.order.argsort()).mT, z.new_zeros(z.shape[:2])


class LUMixing(Transform):
    """A learned invertible matrix for each component: a permutation, then L U.

    L is unit lower-triangular, and U is upper-triangular with a positive diagonal. Both start as
    the identity, so that the transform starts as the permutation.

    Source: Kingma & Dhariwal, "Glow" (2018), section 3.2, equation 10.
    """

    order: Tensor

    def __init__(self, n_components: int, order: Tensor) -> None:
        super().__init__()
        n_features = len(order)
        self.register_buffer("order", order)
        self.lower = nn.Parameter(torch.zeros(n_components, n_features, n_features))
        self.upper = nn.Parameter(torch.zeros(n_components, n_features, n_features))
        self.log_diagonal = nn.Parameter(torch.zeros(n_components, n_features))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Permute and multiply; see `Transform.forward`."""
        lower, upper = self._factors()
        z = torch.bmm(torch.bmm(x.index_select(-1, self.order), lower), upper)
        return z, self.log_diagonal.sum(dim=-1, keepdim=True).expand(x.shape[:2])

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Solve both triangles and permute back; see `Transform.inverse`."""
        lower, upper = self._factors()
        x = torch.linalg.solve_triangular(upper, z, upper=True, left=False)
        x = torch.linalg.solve_triangular(lower, x, upper=False, left=False, unitriangular=True)
        log_det = -self.log_diagonal.sum(dim=-1, keepdim=True).expand(z.shape[:2])
        return x.index_select(-1, self.order.argsort()), log_det

    @property
    def n_free_parameters(self) -> int:
        """One for each entry of the two triangles, whose unit diagonal is fixed."""
        return self.lower.numel()

    def _factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(self.lower.shape[-1], dtype=self.lower.dtype, device=self.lower.device)
        lower = self.lower.tril(-1) + identity
        upper = self.upper.triu(1) + torch.diag_embed(self.log_diagonal.exp())
        return lower, upper
