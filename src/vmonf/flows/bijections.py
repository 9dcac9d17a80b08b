"""Univariate bijections: pure functions of a value and its parameters.

The parameters are computed by a coupling layer or an autoregressive layer. With all parameters
zero, a bijection is the identity.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vmonf.flows.kernels.function import call
from vmonf.flows.kernels.spline import InverseSpline, Spline
from vmonf.flows.transform import soft_clip

#: Log-scales of the affine bijection are soft-clipped to +-this.
LOG_SCALE_LIMIT = math.log(1e3)


class Bijection(ABC):
    """An increasing map of the real line, applied to each feature with its own parameters.

    `n_parameters`, `forward` and `inverse` are all that a new bijection needs: plain torch, which
    autograd differentiates.
    """

    #: How many parameters one feature takes.
    n_parameters: int

    def feature_of_parameter(self, n_features: int) -> Tensor:
        """The feature that each of the ``n_features * n_parameters`` parameters belongs to.

        By default: the first parameter of all features, then the second of all features, ...
        """
        return torch.arange(n_features).repeat(self.n_parameters)

    @abstractmethod
    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Map values (..., D) by parameters (..., D * n_parameters).

        Returns the values and the log-derivatives, both (..., D).
        """

    @abstractmethod
    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `forward`; the log-derivatives are those of the inverse map."""


class Affine(Bijection):
    """z = x exp(s) + t, with s soft-clipped to +-log 1000.

    Source: Dinh et al., "Density estimation using Real NVP" (2017), equation 8.
    """

    n_parameters = 2

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift; see `Bijection.forward`."""
        shift, raw = parameters.chunk(2, dim=-1)
        log_scale = soft_clip(raw, LOG_SCALE_LIMIT)
        return torch.addcmul(shift, x, log_scale.exp()), log_scale

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Shift back and scale back; see `Bijection.inverse`."""
        shift, raw = parameters.chunk(2, dim=-1)
        log_scale = soft_clip(raw, LOG_SCALE_LIMIT)
        return (z - shift) * (-log_scale).exp(), -log_scale


class RationalQuadraticSpline(Bijection):
    """A monotone rational-quadratic spline on [-bound, bound], and the identity outside.

    Source: Durkan et al., "Neural Spline Flows" (2019), equations 4 to 8. Widths and heights of
    the bins are a softmax, interior slopes an exponential; both of soft-clipped values, so that
    no bin is too thin for float32 to divide by. The plain formulas are in `vmonf.flows.spline`.
    """

    def __init__(self, n_bins: int = 8, bound: float = 5.0) -> None:
        self.n_bins = n_bins
        self.bound = bound
        self.n_parameters = 3 * n_bins - 1  # widths, heights, and slopes at the interior knots

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate the spline; see `Bijection.forward`."""
        z, log_slopes = call(Spline(self.bound), x, parameters)
        return z, log_slopes

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Solve the quadratic equation of the bin that z is in; see `Bijection.inverse`."""
        x, log_slopes = call(InverseSpline(self.bound), z, parameters)
        return x, log_slopes
