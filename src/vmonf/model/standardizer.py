"""Standardisation: the map from the user's units to the units of the flows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vmonf.model.domain import Domain
from vmonf.model.in_double import InDouble


class Standardizer(InDouble):
    """x -> (x - shift) / scale for each feature, computed in double precision.

    Double precision is kept when the model is float32, in which a feature of mean 1e12 and
    standard deviation 1 would be constant. The log-determinant is part of every log density.

    Parameters
    ----------
    shift, scale : Tensor of shape (D,)
        Shift and positive scale of each feature, in the user's units, or in those of the domain.
    domain : Domain, optional
        If features have bounds or a period, they are mapped by it first.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Tensor, scale: Tensor, domain: Domain | None = None) -> None:
        super().__init__()
        self.register_buffer("shift", shift.double())
        self.register_buffer("scale", scale.double())
        self.domain = domain

    @property
    def images(self) -> Tensor | None:
        """What is added to standardised rows to make their images: (I, D), or None without periods.

        The density of a row is the sum over its images.
        """
        if self.domain is None or not self.n_periodic:
            return None
        return self.domain.images / self.scale

    def log_det(self, x: Tensor) -> Tensor:
        """Log |det dz/dx| in nats: (..., D) to (...), or a scalar if it is that of every row."""
        log_det = -self.scale.log().sum()
        return log_det if self.domain is None else log_det + self.domain.log_det(x.double())

    def log_slopes(self, x: Tensor) -> Tensor:
        """Log |dz/dx| of each feature, whose sum is `log_det`, in nats: (..., D) to (..., D)."""
        log_slopes = -self.scale.log().expand(x.shape)
        return (
            log_slopes if self.domain is None else log_slopes + self.domain.log_slopes(x.double())
        )

    def forward(self, x: Tensor) -> Tensor:
        """Standardise rows in the user's units: (..., D) to (..., D), in double precision."""
        x = x.to(self.scale.dtype)
        return ((x if self.domain is None else self.domain(x)) - self.shift) / self.scale

    def inverse(self, z: Tensor) -> Tensor:
        """Rows in the user's units from standardised rows: (..., D) to (..., D), in double."""
        x = z.to(self.scale.dtype) * self.scale + self.shift
        return x if self.domain is None else self.domain.inverse(x)

    def is_outside(self, x: Tensor) -> Tensor | None:
        """Mask of the rows beyond the bounds of a feature: (..., D) to (...); None without bounds.

        Their density is zero.
        """
        return None if self.domain is None else self.domain.is_outside(x.double())

    @property
    def n_periodic(self) -> int:
        """Number of features with a period."""
        return 0 if self.domain is None else int(self.domain.is_periodic.sum())

    def in_circles(self, z: Tensor) -> Tensor:
        """Standardised rows with each angle replaced by its sine and cosine.

        (..., D) to (..., D + number of features with a period). With these a function of a row is
        the same on both sides of a cut.
        """
        if self.domain is None or not self.n_periodic:
            return z
        angles = self.domain.is_periodic
        turn = (2 * math.pi * self.scale / self.domain.period)[angles].to(z.dtype)
        turned = z[..., angles] * turn
        # Their deviation is about that of a standardised feature.
        circles = math.sqrt(2) * torch.cat([turned.sin(), turned.cos()], dim=-1)
        return torch.cat([z[..., ~angles], circles], dim=-1)
