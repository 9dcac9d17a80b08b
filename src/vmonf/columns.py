"""Columns of a table: shift, scale, and checks for values that make the density infinite."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dpstrf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: Number of distinct rows from which quantiles and repeated values are computed.
QUANTILE_ROWS = 10_000
#: A repeated value that is further from the others than this many of their ranges is a fill value.
FILL_RANGES = 100
#: Warn of a value that occurs in this share of the distinct rows.
REPEATED_SHARE = 0.1
#: A column depends exactly on others if they leave at most this share of its variance. It is above
#: the rounding of sums in float32, and below that of tables with six digits.
LEAST_REST = 1e-13
#: Smaller coefficients, in standard deviations, are rounding errors.
LEAST_SHARE = 1e-6
#: With more columns, their correlations would take seconds.
MAX_CORRELATED = 1000


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


def refuse_fill_values(X: Array, names: list[str]) -> None:
    """Refuse columns with a value that stands for missing ones, such as -9999 or -3.4e38.

    That is the smallest or the largest value of a column, if it occurs twice or more and is
    further from the others than `FILL_RANGES` times their range.

    Raises
    ------
    ValueError
        If there is such a value. The message names it, its column and how often it occurs.
    """
    for sign, end in ((1.0, "smallest"), (-1.0, "largest")):
        values = sign * X
        lowest = values.min(axis=0)
        is_lowest = values == lowest
        count = is_lowest.sum(axis=0)
        second = np.where(is_lowest, np.inf, values).min(axis=0)
        with np.errstate(over="ignore", invalid="ignore"):  # near the largest floats
            rest, gap = values.max(axis=0) - second, second - lowest
            is_fill = (count > 1) & (rest > 0) & (gap > FILL_RANGES * rest)
        found = np.flatnonzero(is_fill)
        if len(found):
            listed = ", ".join(
                f"{names[c]} ({sign * lowest[c]:g} in {count[c]} of the {len(X)} distinct rows)"
                for c in found[:3]
            )
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise ValueError(
                f"The {end} value stands for missing ones, since it repeats and is more than "
                f"{FILL_RANGES} times the range of the others away from them: {listed}{more}; "
                "leave out these rows or columns, or fill in values."
            )


def refuse_dependent_columns(X: Array, names: list[str]) -> None:
    """Refuse columns that are sums of others, times numbers: the density is unbounded there.

    These are the columns beyond the rank of the correlation matrix, by Cholesky's method with
    pivots: what the other columns leave of their variance is at most `LEAST_REST` of it. With
    hardly more rows than columns, or more than `MAX_CORRELATED` columns, nothing is looked for.

    Parameters
    ----------
    X : array of shape (n, D)
        Distinct rows, none of whose columns is constant; standardised.
    names : list of str

    Raises
    ------
    ValueError
        If there is such a column. The message names it and those that it depends on.
    """
    n_features = X.shape[1]
    if not 1 < n_features <= MAX_CORRELATED or len(X) <= n_features + 1:
        return
    centred = X[:QUANTILE_ROWS] - X[:QUANTILE_ROWS].mean(axis=0)
    lengths = np.linalg.norm(centred, axis=0)
    if len(centred) <= n_features + 1 or not (lengths > 0).all():
        return
    centred /= lengths
    correlation = centred.T @ centred
    factor, pivots, rank, _ = dpstrf(correlation, tol=LEAST_REST)
    if rank == n_features:
        return
    order = pivots - 1
    kept, dependent = order[:rank], order[rank:]
    upper = np.triu(factor[:rank, :rank])
    shares = solve_triangular(upper, factor[:rank, rank:])
    found = []
    for column, share in sorted(zip(dependent.tolist(), shares.T, strict=True)):
        others = [names[c] for c in sorted(kept[np.abs(share) > LEAST_SHARE].tolist())]
        listed = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
        found.append(f"{names[column]} on {listed}")
    more = f" and {len(found) - 2} more" if len(found) > 2 else ""
    raise ValueError(
        f"The density is unbounded where columns depend exactly on others: {'; '.join(found[:2])}"
        f"{more}. Leave out such columns, since the others tell their values."
    )


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
            The sample: distinct rows in random order.
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
    """Warn of columns in which one value occurs in a tenth of the distinct rows or more."""
    few = np.sort(X[:QUANTILE_ROWS], axis=0)
    # A value that occurs in n rows is the same at two places of the sorted column n - 1 apart.
    n = max(2, math.ceil(REPEATED_SHARE * len(few)))
    is_repeated = few[n - 1 :] == few[: len(few) - n + 1]
    repeated = np.flatnonzero(is_repeated.any(axis=0))
    if not len(repeated):
        return
    modes = []
    for column in repeated:
        values, counts = np.unique(few[:, column], return_counts=True)
        modes.append((counts.max() / len(few), values[counts.argmax()], names[column]))
    modes.sort(key=lambda mode: -mode[0])
    listed = ", ".join(f"{name} ({value:g} in {share:.0%})" for share, value, name in modes[:3])
    more = f" and {len(modes) - 3} more" if len(modes) > 3 else ""
    warnings.warn(
        f"The density is unbounded where values repeat: {listed} of the distinct rows{more}; add "
        "noise as large as the steps between their values, or drop such columns.",
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
    # Distinct rows are in random order, so the first rows are representative.
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
