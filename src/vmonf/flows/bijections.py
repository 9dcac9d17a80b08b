"""Univariate bijections: pure functions of a value and its parameters.

A bijection does not know who computes its parameters: a coupling or an
autoregressive conditioner does. All-zero parameters give the identity.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from vmonf.flows.affine import affine, affine_backward, affine_forward, affine_inverse
from vmonf.flows.spline import rational_quadratic_spline, spline_backward, spline_forward


class Bijection(ABC):
    """An increasing map of the real line, applied to each feature with its own parameters."""

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """How many parameters one feature takes."""

    @abstractmethod
    def feature_of_parameter(self, n_features: int) -> Tensor:
        """Which feature each of the ``n_features * n_parameters`` parameters belongs to."""

    @abstractmethod
    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Map (..., D) values by (..., D * n_parameters) parameters.

        Returns the values and the log-derivatives, both (..., D).
        """

    @abstractmethod
    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `forward`; the log-derivatives are those of the inverse map."""

    @abstractmethod
    def evaluate(
        self, x: Tensor, parameters: Tensor, out: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """`forward` without autograd, features before rows: (K, D, B), (K, D * n_parameters, B).

        The values go to `out`; the log-derivatives come back, and what `gradients` needs.
        """

    @abstractmethod
    def gradients(
        self,
        x: Tensor,
        kept: Sequence[Tensor],
        grad_z: Tensor,
        grad_log_slopes: Tensor,
        out: Tensor,
    ) -> Tensor:
        """Gradient of the parameters, (K, D * n_parameters, B); that of x goes to `out`.

        The gradient of the log-derivatives may be (K, 1, B), one for all features.
        """


class Affine(Bijection):
    """z = x exp(s) + t, with s soft-clipped to +-log 1000.

    Source: Dinh et al., "Density estimation using Real NVP" (2017), equation 8.
    """

    n_parameters = 2

    def feature_of_parameter(self, n_features: int) -> Tensor:
        """Shifts of all features, then log-scales of all features."""
        return torch.arange(n_features).repeat(2)

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Z = x exp(s) + t; see `Bijection.forward`."""
        return affine(x, parameters)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """X = (z - t) exp(-s); see `Bijection.inverse`."""
        return affine_inverse(z, parameters)

    def evaluate(
        self, x: Tensor, parameters: Tensor, out: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `Bijection.evaluate`."""
        log_scale, *kept = affine_forward(x, parameters, out)
        return log_scale, tuple(kept)

    def gradients(
        self,
        x: Tensor,
        kept: Sequence[Tensor],
        grad_z: Tensor,
        grad_log_slopes: Tensor,
        out: Tensor,
    ) -> Tensor:
        """See `Bijection.gradients`."""
        scale, softness = kept
        return affine_backward(x, scale, softness, grad_z, grad_log_slopes, out)


class RationalQuadraticSpline(Bijection):
    """A monotone rational-quadratic spline on [-bound, bound], the identity outside.

    Source: Durkan et al., "Neural Spline Flows" (2019), equations 4 to 8. Bin widths and
    heights are a softmax with a floor, interior slopes an exponential; both are
    soft-clipped, so that no bin is thinner than float32 can divide by.
    """

    def __init__(self, n_bins: int = 8, bound: float = 5.0) -> None:
        self.n_bins = n_bins
        self.bound = bound

    @property
    def n_parameters(self) -> int:
        """Widths and heights of the bins, slopes at the interior knots."""
        return 3 * self.n_bins - 1

    def feature_of_parameter(self, n_features: int) -> Tensor:
        """The first parameters of all features, then the second of all, ..."""
        return torch.arange(n_features).repeat(self.n_parameters)

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate the spline; see `Bijection.forward`."""
        return rational_quadratic_spline(x, parameters, self.bound)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Solve the quadratic of the bin that z falls in; see `Bijection.inverse`."""
        return rational_quadratic_spline(z, parameters, self.bound, inverse=True)

    def evaluate(
        self, x: Tensor, parameters: Tensor, out: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `Bijection.evaluate`."""
        log_slopes, bins = spline_forward(x, parameters, self.bound, out)
        return log_slopes, (parameters, bins)

    def gradients(
        self,
        x: Tensor,
        kept: Sequence[Tensor],
        grad_z: Tensor,
        grad_log_slopes: Tensor,
        out: Tensor,
    ) -> Tensor:
        """See `Bijection.gradients`."""
        parameters, bins = kept
        return spline_backward(
            x, parameters, bins, self.bound, grad_z, grad_log_slopes.expand_as(x), out
        )
