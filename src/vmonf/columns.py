"""Columns of a table: shift, scale, and checks for values that make the density infinite."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Number of distinct rows from which quantiles and repeated values are computed.
QUANTILE_ROWS = 10_000


def shift_and_scale(X: Array, weight: Array, names: list[str]) -> tuple[Array, Array]:
    """Weighted mean of each column, and a width that is robust to a few outliers.

    The width is the standard deviation, but at most three times the distance between the 5%
    and the 95% quantile, unless these quantiles are equal.

    Raises
    ------
    ValueError
        If a column is constant, since the density would be infinite.
    """
    # Subtracting the first value avoids a loss of digits when the offset is large. Dividing by
    # the range avoids underflow and overflow of the squares.
    origin = X[0]
    spread = np.ptp(X, axis=0)
    _refuse_constant(spread, np.abs(X).max(axis=0), names, f"{len(X)} distinct rows")
    unit = (X - origin) / spread
    mean = np.average(unit, axis=0, weights=weight)
    deviation = np.sqrt(np.average(np.square(unit - mean), axis=0, weights=weight))
    width = np.minimum(deviation, _widest(unit, weight))
    return origin + spread * mean, spread * width


class Moments:
    """Range, weighted mean and deviation of the columns of a table that is read in parts."""

    def __init__(self) -> None:
        self.n_rows = 0
        self.weight = 0.0
        self.origin = self.low = self.high = self.mean = self.squares = np.zeros(0)

    def add(self, X: Array, weight: Array) -> None:
        """Add rows: X has shape (n, D), weight (n,); weights are positive."""
        if self.n_rows == 0:
            self.origin, self.low, self.high = X[0].copy(), X[0].copy(), X[0].copy()
            self.mean = self.squares = np.zeros(X.shape[1])
        self.low = np.minimum(self.low, X.min(axis=0))
        self.high = np.maximum(self.high, X.max(axis=0))
        # Source: Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing
        # sample variances" (1979).
        x, total = X - self.origin, float(weight.sum())
        mean = weight @ x / total
        difference, both = mean - self.mean, self.weight + total
        self.squares = (
            self.squares
            + weight @ np.square(x - mean)
            + np.square(difference) * (self.weight * total / both)
        )
        self.mean = self.mean + difference * (total / both)
        self.weight = both
        self.n_rows += len(X)

    def shift_and_scale(self, X: Array, weight: Array, names: list[str]) -> tuple[Array, Array]:
        """As the function of this name, with the quantiles of a sample of the rows.

        Parameters
        ----------
        X, weight : array of shape (n, D) and (n,)
            The sample: distinct rows in the order of their hashes.
        names : list of str

        Raises
        ------
        ValueError
            If a column is constant, since the density would be infinite.
        """
        largest = np.maximum(np.abs(self.low), np.abs(self.high))
        _refuse_constant(self.high - self.low, largest, names, f"{self.n_rows} rows")
        deviation = np.sqrt(self.squares / self.weight)
        return self.origin + self.mean, np.minimum(deviation, _widest(X, weight))


def warn_of_repeated_values(X: Array, names: list[str]) -> None:
    """Warn of columns in which one value occurs in more than half of the distinct rows."""
    few = np.sort(X[:QUANTILE_ROWS], axis=0)
    # A value that occurs in more than half of the rows is the median of the column.
    middle = few[len(few) // 2]
    share = (few == middle).mean(axis=0)
    repeated = np.flatnonzero(share > 0.5)
    if len(repeated):
        listed = ", ".join(
            f"{names[c]} ({middle[c]:g} in {share[c]:.0%} of the distinct rows)"
            for c in repeated[:3]
        )
        more = f" and {len(repeated) - 3} more" if len(repeated) > 3 else ""
        warnings.warn(
            f"The density is unbounded where values repeat: {listed}{more}; drop such "
            "columns, or add noise as large as the steps between their values.",
            stacklevel=4,
        )


def _refuse_constant(spread: Array, largest: Array, names: list[str], rows: str) -> None:
    """Raise ValueError if the range of a column is 0, or that of rounding."""
    resolution = largest * np.finfo(np.float64).eps * 4
    constant = np.flatnonzero((spread <= resolution) | (spread == 0))
    if len(constant):
        listed = ", ".join(names[column] for column in constant[:5])
        more = f" and {len(constant) - 5} more" if len(constant) > 5 else ""
        raise ValueError(
            f"The density is infinite along a constant column: {listed}{more} "
            f"{'is' if len(constant) == 1 else 'are'} constant over the {rows}; "
            "drop constant columns before fitting."
        )


def _widest(X: Array, weight: Array) -> Array:
    """Three times the distance of the quantiles of each column, or infinity if they are equal."""
    # Distinct rows are in the order of their hashes, so the first rows are representative.
    few = slice(QUANTILE_ROWS)
    between = np.array(
        [_quantile_range(column, weight[few]) for column in np.ascontiguousarray(X[few].T)]
    )
    widest: Array = np.where(between > 0, 3 * between, np.inf)
    return widest


def _quantile_range(column: Array, weight: Array) -> float:
    """Distance between the weighted 5% and 95% quantiles."""
    order = np.argsort(column, kind="stable")
    share = np.cumsum(weight[order])
    low, high = np.searchsorted(share, np.array([0.05, 0.95]) * share[-1])
    return float(column[order[high]] - column[order[low]])
