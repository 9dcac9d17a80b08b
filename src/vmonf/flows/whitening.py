"""The affine start of every component."""

import torch
from torch import Tensor, nn

from vmonf.flows.transform import Transform


class Whitening(Transform):
    """z = A (x - mean), with A lower-triangular of positive diagonal, or diagonal.

    On its own it makes each component a Gaussian; it starts as the standard one and is
    set from data by `set_gaussians`. It is trained with the rest of the flow.
    """

    def __init__(self, n_components: int, n_features: int, *, diagonal: bool = False) -> None:
        super().__init__()
        self.diagonal = diagonal
        self.mean = nn.Parameter(torch.zeros(n_components, 1, n_features))
        self.log_diagonal = nn.Parameter(torch.zeros(n_components, 1, n_features))
        # The transpose of A's strict lower triangle, laid for values in rows.
        self.upper: nn.Parameter | None = None
        if not diagonal:
            self.upper = nn.Parameter(torch.zeros(n_components, n_features, n_features))

    @torch.no_grad()
    def set_gaussians(self, means: Tensor, covariances: Tensor) -> None:
        """Make component c the Gaussian of mean ``means[c]`` and covariance ``covariances[c]``.

        Parameters
        ----------
        means : Tensor of shape (K, D)
        covariances : Tensor of shape (K, D, D), or (K, D) of variances
            Positive definite. A diagonal whitening uses the variances alone.

        Raises
        ------
        torch.linalg.LinAlgError
            If a covariance is not positive definite.
        """
        self.mean.copy_(means[:, None, :])
        if covariances.dim() == 2:
            covariances = torch.diag_embed(covariances)
        if self.upper is None:
            self.log_diagonal.copy_(-0.5 * covariances.diagonal(dim1=-2, dim2=-1).log()[:, None, :])
            return
        factor = torch.linalg.cholesky(covariances.double())
        identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
        whitener = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
        self.log_diagonal.copy_(whitener.diagonal(dim1=-2, dim2=-1).log()[:, None, :])
        self.upper.copy_(whitener.mT.triu(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Whiten; see `Transform.forward`."""
        centred = x - self.mean
        if self.upper is None:
            z = centred * self.log_diagonal.exp()
        else:
            z = torch.bmm(centred, self._matrix())
        return z, self.log_diagonal.sum(dim=-1).expand(x.shape[:2])

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Colour; see `Transform.inverse`."""
        if self.upper is None:
            centred = z * (-self.log_diagonal).exp()
        else:
            centred = torch.linalg.solve_triangular(self._matrix(), z, upper=True, left=False)
        return centred + self.mean, -self.log_diagonal.sum(dim=-1).expand(z.shape[:2])

    def _matrix(self) -> Tensor:
        assert self.upper is not None
        return self.upper.triu(1) + torch.diag_embed(self.log_diagonal.squeeze(1).exp())
