"""Units: from the user's to the model's."""

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
