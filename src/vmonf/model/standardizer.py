"""Units: from the user's to the model's."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class Standardizer(nn.Module):
    """x -> (x - shift) / scale, feature by feature, computed in double precision.

    Double, whatever the parameters are: a feature of mean 1e12 and deviation 1 would be
    constant in float32. Its log-determinant is part of every density.

    Parameters
    ----------
    shift, scale : Tensor of shape (D,)
        In the user's units; scales are positive.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift.double())
        self.register_buffer("scale", scale.double())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Follow to another device, but stay in double when the model is made float32.
        device = fn(torch.empty(0, device=self.shift.device)).device
        self.shift, self.scale = self.shift.to(device), self.scale.to(device)
        return self

    @property
    def log_det(self) -> Tensor:
        """Log |det dz/dx|, the same for every row: a scalar, in nats."""
        return -self.scale.log().sum()

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) in the user's units to (..., D) standardised, in double precision."""
        return (x.to(self.scale.dtype) - self.shift) / self.scale

    def inverse(self, z: Tensor) -> Tensor:
        """(..., D) standardised to (..., D) in the user's units, in double precision."""
        return z.to(self.scale.dtype) * self.scale + self.shift
