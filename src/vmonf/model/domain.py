"""Columns with bounds or a period: the maps between their values and the real line."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

#: An angle is counted with its images so many periods to either side.
IMAGES = 1


class Domain(nn.Module):
    """The map of columns with bounds or a period to the real line, where the flows are.

    - A column with a lower bound a is mapped by log(x - a + m), one with an upper bound b by
      -log(b - x + m), and one with both by the quantile function of the standard normal
      distribution, at (x - a + m) / (b - a + 2 m): a uniform distribution becomes a normal one.
      Here m is a small `margin`, so that values on a bound are mapped to numbers. What the flows
      have beyond these is a point mass on the bound.
    - A column of period P is cut at one point, and so mapped to [cut, cut + P). The density of a
      row is the sum over its images, in which P is added to the value or subtracted from it: a
      wrapped distribution, which is smooth at the cut. What the flows have further away than one
      period from [cut, cut + P) is not counted.
    - Other columns stay as they are.

    Parameters
    ----------
    low, high : Tensor of shape (D,)
        The bounds, -inf and inf where there are none.
    margin : Tensor of shape (D,)
        Positive, in the units of each column.
    period : Tensor of shape (D,)
        The period of each column, or 0.
    cut, first : Tensor of shape (D,)
        Where a column with a period is cut; and the beginning of the interval of one period in
        which the values of samples are.
    """

    low: Tensor
    high: Tensor
    margin: Tensor
    period: Tensor
    cut: Tensor
    first: Tensor

    def __init__(
        self, low: Tensor, high: Tensor, margin: Tensor, period: Tensor, cut: Tensor, first: Tensor
    ) -> None:
        super().__init__()
        fields = {
            "low": low,
            "high": high,
            "margin": margin,
            "period": period,
            "cut": cut,
            "first": first,
        }
        for name, values in fields.items():
            self.register_buffer(name, values.double())

    @property
    def is_periodic(self) -> Tensor:
        """Mask of the columns with a period: shape (D,)."""
        return self.period > 0

    @property
    def images(self) -> Tensor:
        """What is added to a row to make its images: (I, D), in the user's units."""
        columns = self.is_periodic.nonzero().flatten().tolist()
        turns = range(-IMAGES, IMAGES + 1)
        images = self.period.new_zeros(len(turns) ** len(columns), len(self.period))
        for image, of_columns in zip(
            images, itertools.product(turns, repeat=len(columns)), strict=True
        ):
            for column, turn in zip(columns, of_columns, strict=True):
                image[column] = turn * self.period[column]
        return images

    def is_outside(self, x: Tensor) -> Tensor:
        """Mask of the rows with a value beyond a bound, where the density is zero."""
        return ((x < self.low) | (x > self.high)).any(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """Values on the real line: (..., D) to (..., D). Beyond a bound they are those on it."""
        above, below, both = self._kinds()
        x = x.clamp(self.low, self.high)
        value = torch.where(above, self._from_low(x).log(), x)
        value = torch.where(below, -self._from_high(x).log(), value)
        value = torch.where(both, torch.special.ndtri(self._share(x)), value)
        turned = self.cut + (x - self.cut).remainder(self.period.where(self.is_periodic, 1.0))
        return torch.where(self.is_periodic, turned, value)

    def log_det(self, x: Tensor) -> Tensor:
        """Log |det| of the derivative of `forward`: (..., D) to (...). Beyond a bound as on it."""
        return self.log_slopes(x).sum(dim=-1)

    def log_slopes(self, x: Tensor) -> Tensor:
        """Log of the derivative of `forward` in each column: (..., D) to (..., D)."""
        above, below, both = self._kinds()
        x = x.clamp(self.low, self.high)
        log_slope = torch.where(above, -self._from_low(x).log(), 0.0)
        log_slope = torch.where(below, -self._from_high(x).log(), log_slope)
        quantile = torch.special.ndtri(self._share(x))
        of_both = 0.5 * (quantile.square() + math.log(2 * math.pi)) - self._width().log()
        return torch.where(both, of_both, log_slope)

    def inverse(self, value: Tensor) -> Tensor:
        """Undo `forward`; a column with a period is brought to [first, first + P)."""
        above, below, both = self._kinds()
        low, high = self._numbers(self.low), self._numbers(self.high)
        x = torch.where(above, low - self.margin + value.where(above, 0.0).exp(), value)
        x = torch.where(below, high + self.margin - (-value.where(below, 0.0)).exp(), x)
        x = torch.where(both, low - self.margin + self._width() * torch.special.ndtr(value), x)
        x = x.clamp(self.low, self.high)
        turned = (value - self.first).remainder(self.period.where(self.is_periodic, 1.0))
        return torch.where(self.is_periodic, self.first + turned, x)

    def _kinds(self) -> tuple[Tensor, Tensor, Tensor]:
        """Masks of the columns with a lower bound alone, an upper bound alone, and both."""
        has_low, has_high = self.low.isfinite(), self.high.isfinite()
        return has_low & ~has_high, has_high & ~has_low, has_low & has_high

    # For columns of other kinds, the results of the following are numbers that are not used.

    @staticmethod
    def _numbers(bounds: Tensor) -> Tensor:
        return bounds.where(bounds.isfinite(), 0.0)

    def _from_low(self, x: Tensor) -> Tensor:
        return (x - self._numbers(self.low) + self.margin).where(self.low.isfinite(), 1.0)

    def _from_high(self, x: Tensor) -> Tensor:
        return (self._numbers(self.high) - x + self.margin).where(self.high.isfinite(), 1.0)

    def _width(self) -> Tensor:
        _, _, both = self._kinds()
        width = self._numbers(self.high) - self._numbers(self.low) + 2 * self.margin
        return width.where(both, 1.0)

    def _share(self, x: Tensor) -> Tensor:
        _, _, both = self._kinds()
        return (self._from_low(x) / self._width()).where(both, 0.5)
