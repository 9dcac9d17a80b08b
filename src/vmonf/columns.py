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
    resolution = np.abs(X).max(axis=0) * np.finfo(np.float64).eps * 4
    constant = np.flatnonzero((spread <= resolution) | (spread == 0))
    if len(constant):
        listed = ", ".join(names[column] for column in constant[:5])
        more = f" and {len(constant) - 5} more" if len(constant) > 5 else ""
        raise ValueError(
            f"The density is infinite along a constant column: {listed}{more} "
            f"{'is' if len(constant) == 1 else 'are'} constant over the {len(X)} distinct rows; "
            "drop constant columns before fitting."
        )
    unit = (X - origin) / spread
    mean = np.average(unit, axis=0, weights=weight)
    deviation = np.sqrt(np.average(np.square(unit - mean), axis=0, weights=weight))
    # Distinct rows are in the order of their hashes, so the first rows are representative.
    few = slice(QUANTILE_ROWS)
    between = np.array(
        [_quantile_range(column, weight[few]) for column in np.ascontiguousarray(unit[few].T)]
    )
    width = np.where(between > 0, np.minimum(deviation, 3 * between), deviation)
    return origin + spread * mean, spread * width


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


def _quantile_range(column: Array, weight: Array) -> float:
    """Distance between the weighted 5% and 95% quantiles."""
    order = np.argsort(column, kind="stable")
    share = np.cumsum(weight[order])
    low, high = np.searchsorted(share, np.array([0.05, 0.95]) * share[-1])
    return float(column[order[high]] - column[order[low]])
