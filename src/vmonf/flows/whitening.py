"""The affine transform that every flow starts with."""

import torch
from torch import Tensor, nn

from vmonf.flows.transform import Transform


class Whitening(Transform):
    """z = A R (x - mean), with a fixed rotation R and a lower-triangular A of positive diagonal.

    A whitening alone makes each component a Gaussian: at first the standard one, and after
    `set_gaussians` one of given mean and covariance. R then rotates each component to its own
    principal axes, the longest first, so that how well a coupling layer can transform a cluster
    does not depend on the cluster's orientation. The mean and A are trained with the rest of the
    flow. A diagonal whitening has no rotation, and A is diagonal.
    """

    def __init__(self, n_components: int, n_features: int, *, diagonal: bool = False) -> None:
        super().__init__()
        self.diagonal = diagonal
        self.mean = nn.Parameter(torch.zeros(n_components, 1, n_features))
        self.log_diagonal = nn.Parameter(torch.zeros(n_components, 1, n_features))
        # Transposes of R and of the strict lower triangle of A, which multiply rows from the
        # right. R is a parameter without gradient: whatever has a component axis is a parameter.
        self.rotation: nn.Parameter | None = None
        self.upper: nn.Parameter | None = None
        if not diagonal:
            identity = torch.eye(n_features).repeat(n_components, 1, 1)
            self.rotation = nn.Parameter(identity, requires_grad=False)
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
        axes: Tensor | None = None
        if self.rotation is not None:
            if covariances.dim() == 2:
                covariances = torch.diag_embed(covariances)
            variances, axes = torch.linalg.eigh(covariances.double())
        elif covariances.dim() == 3:
            variances = covariances.diagonal(dim1=-2, dim2=-1)
        else:
            variances = covariances
        if not bool((variances > 0).all()):
            raise torch.linalg.LinAlgError(  # type: ignore[attr-defined]
                "A covariance is not positive definite."
            )
        if self.rotation is None or self.upper is None or axes is None:
            self.log_diagonal.copy_(-0.5 * variances.log()[:, None, :])
            return
        axes = axes.flip(-1)
        # The sign of an axis depends on the library: make its largest entry positive.
        largest = axes.abs().argmax(dim=-2, keepdim=True)
        axes = axes * axes.gather(-2, largest).sign()
        self.rotation.copy_(axes)
        self.upper.zero_()
        self.log_diagonal.copy_(-0.5 * variances.flip(-1).log()[:, None, :])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Whiten; see `Transform.forward`."""
        centred = x - self.mean
        if self.rotation is None:
            z = centred * self.log_diagonal.exp()
        else:
            z = torch.bmm(torch.bmm(self.rotation, self._triangle()).mT, centred.mT).mT
        return z, self.log_diagonal.sum(dim=-1).expand(x.shape[:2])

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo the whitening; see `Transform.inverse`."""
        if self.rotation is None:
            centred = z * (-self.log_diagonal).exp()
        else:
            turned = torch.linalg.solve_triangular(self._triangle(), z, upper=True, left=False)
            centred = torch.bmm(self.rotation, turned.mT).mT
        return centred + self.mean, -self.log_diagonal.sum(dim=-1).expand(z.shape[:2])

    @property
    def n_free_parameters(self) -> int:
        """As many as a Gaussian has: its mean and the entries of its triangle."""
        n_free = self.mean.numel() + self.log_diagonal.numel()
        if self.upper is not None:
            n_components, n_features, _ = self.upper.shape
            n_free += n_components * n_features * (n_features - 1) // 2
        return n_free

    def _triangle(self) -> Tensor:
        assert self.upper is not None
        return self.upper.triu(1) + torch.diag_embed(self.log_diagonal.squeeze(1).exp())
