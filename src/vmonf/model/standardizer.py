"""Standardisation: the map from the user's units to the units of the flows."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class Standardizer(nn.Module):
    """x -> (x - shift) / scale for each feature, computed in double precision.

    Double precision is kept when the model is float32, in which a feature of mean 1e12 and
    standard deviation 1 would be constant. The log-determinant is part of every log density.

    Parameters
    ----------
    shift, scale : Tensor of shape (D,)
        Shift and positive scale of each feature, in the user's units.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift.double())
        self.register_buffer("scale", scale.double())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Move to the device of the model, but keep double precision when it becomes float32.
        device = fn(torch.empty(0, device=self.shift.device)).device
        self.shift, self.scale = self.shift.to(device), self.scale.to(device)
        return self

    @property
    def log_det(self) -> Tensor:
        """Log |det dz/dx|, the same for every row: a scalar, in nats."""
        return -self.scale.log().sum()

    def forward(self, x: Tensor) -> Tensor:
        """Standardise rows in the user's units: (..., D) to (..., D), in double precision."""
        return (x.to(self.scale.dtype) - self.shift) / self.scale

    def inverse(self, z: Tensor) -> Tensor:
        """Rows in the user's units from standardised rows: (..., D) to (..., D), in double."""
        return z.to(self.scale.dtype) * self.scale + self.shift
