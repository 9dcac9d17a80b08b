"""Base distributions of K flows: the standard normal, or a mixture of M Gaussians for each flow."""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

#: The logit of an atom that a component lacks because it has fewer atoms than others. Its weight
#: is zero in every dtype, and unlike -inf it can be averaged.
ABSENT = -1e4
#: Draws are made in parts whose matrices have at most this many values.
VALUES_AT_ONCE = 2**22
#: Degrees of freedom of the Student-t distribution, the smallest number with a finite variance.
DEGREES = 3


def student_t_constant(n_features: int) -> float:
    """Log density of the Student-t distribution at zero, in nats, for D features."""
    return (
        math.lgamma(0.5 * (DEGREES + n_features))
        - math.lgamma(0.5 * DEGREES)
        - 0.5 * n_features * math.log(DEGREES * math.pi)
    )


class Base(nn.Module):
    """The base distributions of K flows. Every parameter has a leading component axis.

    A share of each base distribution, the broad part, can be a Student-t distribution about zero.
    Far from the rows of a fit, the density then falls as a power of the distance. Otherwise it
    falls exponentially or faster, and a few new rows there could cost hundreds of nats each.

    Parameters
    ----------
    n_components, n_features : int
    broad_weight : float
        The weight of the broad part, which is not trained.
    """

    def __init__(self, n_components: int, n_features: int, broad_weight: float = 0.0) -> None:
        super().__init__()
        self.n_components, self.n_features = n_components, n_features
        self.broad_weight = broad_weight

    @abstractmethod
    def narrow(self, z: Tensor) -> Tensor:
        """Log density without the broad part, in nats: (K, B, D) to (K, B)."""

    @abstractmethod
    def draw_narrow(
        self, component: Tensor, like: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Draws from the distribution without the broad part; arguments as in `sample`."""

    def forward(self, z: Tensor) -> Tensor:
        """Log density in nats: (K, B, D) to (K, B)."""
        narrow = self.narrow(z)
        if not self.broad_weight:
            return narrow
        scale = 0.5 * (DEGREES + self.n_features)
        constant = math.log(self.broad_weight) + student_t_constant(self.n_features)
        broad = constant - scale * torch.log1p(z.square().sum(dim=-1) / DEGREES)
        return torch.logaddexp(math.log1p(-self.broad_weight) + narrow, broad)

    def sample(self, component: Tensor, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw a row from the base distribution of each of n components: (n,) to (n, D).

        ``like`` has the dtype and the device of the rows.
        """
        z = self.draw_narrow(component, like, generator)
        if not self.broad_weight or not len(z):
            return z
        uniform = torch.rand(
            len(z), 1, generator=generator, dtype=torch.float64, device=like.device
        )
        # A row of the Student-t distribution is one of the standard normal distribution, divided by
        # the root of a chi-square variable over its degrees of freedom.
        normal = self._noise(len(z) * (1 + DEGREES), like, generator)
        normal, others = normal[: len(z)], normal[len(z) :, :1].view(DEGREES, len(z), 1)
        broad = normal / others.square().mean(dim=0).sqrt()
        return broad.where(uniform < self.broad_weight, z)

    @property
    def n_free_parameters(self) -> int:
        """How many numbers can be trained, over all components."""
        return 0

    def _noise(self, n: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
        return torch.randn(
            n, self.n_features, generator=generator, dtype=like.dtype, device=like.device
        )


class StandardNormal(Base):
    """The standard normal distribution, for every flow."""

    def narrow(self, z: Tensor) -> Tensor:
        """See `Base.narrow`."""
        return -0.5 * (z.square().sum(dim=-1) + self.n_features * math.log(2 * math.pi))

    def draw_narrow(
        self, component: Tensor, like: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """See `Base.draw_narrow`."""
        return self._noise(len(component), like, generator)


class GaussianMixtureBase(Base):
    """A mixture of M Gaussians, the atoms, for each flow.

    With layers that are the identity, a component is then a Gaussian mixture, so that it can
    have the shape of a ring or a wing before any training.

    Atom m of component c is the distribution of z if u = T W (z - mean) - s is standard normal.
    W and the mean are fixed at the atom's first covariance and mean; the upper triangular T
    and the shift s are trained. One step of the optimiser thus moves each atom by the same share of
    its own width, however narrow the atom is.

    Parameters
    ----------
    n_components, n_features : int
    n_atoms : int
        M, the largest number of atoms of a component. Components may have fewer.
    broad_weight : float
        See `Base`.
    """

    def __init__(
        self, n_components: int, n_features: int, n_atoms: int, broad_weight: float = 0.0
    ) -> None:
        super().__init__(n_components, n_features, broad_weight)
        shape = (n_components, n_atoms, n_features)
        identity = torch.eye(n_features).expand(*shape, n_features).contiguous()
        self.logits = nn.Parameter(torch.zeros(n_components, n_atoms))
        # Constants are parameters without gradient: whatever has a component axis is a parameter.
        self.mean = nn.Parameter(torch.zeros(shape), requires_grad=False)
        self.factor = nn.Parameter(identity, requires_grad=False)
        self.shift = nn.Parameter(torch.zeros(shape))
        self.log_diagonal = nn.Parameter(torch.zeros(shape))
        self.upper = nn.Parameter(torch.zeros(*shape, n_features))

    @torch.no_grad()
    def set_atoms(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        """Set all atoms, in double precision.

        Parameters
        ----------
        weights : Tensor of shape (K, M)
            Weight of each atom within its component. It is zero for an atom that the component
            lacks.
        means : Tensor of shape (K, M, D)
        covariances : Tensor of shape (K, M, D, D)
            Positive definite.
        """
        self.logits.copy_(weights.log().clamp(min=ABSENT))
        self.mean.copy_(means)
        # |W (z - mean)|^2 is the Mahalanobis distance, for the inverse W of the upper triangular
        # factor of the covariance.
        upper = torch.linalg.cholesky(covariances.flip(-1, -2)).flip(-1, -2)
        identity = torch.eye(self.n_features, dtype=covariances.dtype).expand_as(covariances)
        self.factor.copy_(torch.linalg.solve_triangular(upper, identity, upper=True))
        for parameter in (self.shift, self.log_diagonal, self.upper):
            parameter.zero_()

    def narrow(self, z: Tensor) -> Tensor:
        """See `Base.narrow`."""
        matrix, offset, log_det = self._maps()
        n_components, n_atoms, n_features = offset.shape
        matrix = matrix.reshape(n_components, n_atoms * n_features, n_features)
        offset = offset.reshape(n_components, n_atoms * n_features, 1)
        u = torch.baddbmm(offset, matrix, z.mT, beta=-1)
        distance = u.view(n_components, n_atoms, n_features, -1).square().sum(dim=2)
        constant = self.logits.log_softmax(dim=-1) + log_det
        constant = constant - 0.5 * n_features * math.log(2 * math.pi)
        return torch.logsumexp(constant[:, :, None] - 0.5 * distance, dim=1)

    def draw_narrow(
        self, component: Tensor, like: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """See `Base.draw_narrow`."""
        noise = self._noise(len(component), like, generator)
        if not len(component):
            return noise
        matrix, offset, _ = self._maps()
        identity = torch.eye(self.n_features, dtype=like.dtype, device=like.device)
        inverse = torch.linalg.solve_triangular(matrix, identity.expand_as(matrix), upper=True)
        # The atom of each row: the first whose cumulative weight exceeds a uniform number.
        reached = self.logits.softmax(dim=-1).cumsum(dim=-1)[component]
        uniform = torch.rand(
            len(component), 1, generator=generator, dtype=like.dtype, device=like.device
        )
        atom = (reached <= uniform * reached[:, -1:]).sum(dim=-1).clamp(max=reached.shape[1] - 1)
        at_once = max(1, VALUES_AT_ONCE // self.n_features**2)
        parts = [
            torch.einsum("nij,nj->ni", inverse[c, a], u + offset[c, a])
            for c, a, u in zip(
                component.split(at_once), atom.split(at_once), noise.split(at_once), strict=True
            )
        ]
        return torch.cat(parts)

    @property
    def n_free_parameters(self) -> int:
        """As many as Gaussians have: weights, means and triangles of the atoms that are present."""
        present = self.logits > ABSENT
        n_features = self.n_features
        of_an_atom = 1 + n_features + n_features * (n_features + 1) // 2
        return int(present.sum()) * of_an_atom - len(present)

    def _maps(self) -> tuple[Tensor, Tensor, Tensor]:
        """For each atom the matrix and the offset of u = matrix z - offset, and its log |det|."""
        triangle = self.upper.triu(1) + torch.diag_embed(self.log_diagonal.exp())
        matrix = triangle @ self.factor
        offset = (matrix @ self.mean[..., None]).squeeze(-1) + self.shift
        of_factor = self.factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
        return matrix, offset, self.log_diagonal.sum(dim=-1) + of_factor
