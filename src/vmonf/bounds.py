"""Bounds and periods of columns, as a user gives them: `bounds=` and `periodic=`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vmonf.model import Domain
from vmonf.parameters import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: With more columns that have a period, a row would have hundreds of images.
MOST_PERIODIC = 3
#: The margin of a bound that no row is on, as a share of the distance of the nearest row.
SMALL_MARGIN = 1e-6
#: A column with a period is cut in the middle of the emptiest of so many parts of the circle.
N_ARCS = 72
#: How the parameters are written.
_EXAMPLES = {"bounds": '{"share": (0, 1), "mass": (0, None)}', "periodic": '{"hour": 24}'}


def check_domains(parameters: Mapping[str, Any]) -> None:
    """Check the parameters `bounds` and `periodic` as far as this takes no data.

    Raises
    ------
    ParameterError
        If a value has another form, or a column has both bounds and a period.
    """
    bounds, periodic = (parameters[name] or {} for name in ("bounds", "periodic"))
    for name, given in (("bounds", bounds), ("periodic", periodic)):
        is_mapping = isinstance(given, Mapping)
        if not is_mapping or not all(isinstance(c, (str, int, np.integer)) for c in given):
            raise ParameterError(
                name,
                f"={given!r} must be a dictionary whose keys are names or numbers of columns, such "
                f"as {_EXAMPLES[name]}.",
            )
    for column, pair in bounds.items():
        _bounds_of(column, pair)
    for column, period in periodic.items():
        is_number = isinstance(period, (int, float, np.number)) and not isinstance(period, bool)
        if not is_number or not 0 < period < np.inf:
            raise ParameterError(
                "periodic", f"[{column!r}]={period!r} must be a number above 0: the period."
            )
    both = [column for column in bounds if column in periodic]
    if both:
        raise ParameterError("periodic", f" and bounds both have the column {both[0]!r}: give one.")
    if len(periodic) > MOST_PERIODIC:
        raise ParameterError(
            "periodic",
            f" has {len(periodic)} columns, and at most {MOST_PERIODIC} may have a period: replace "
            "the others by their sine and cosine.",
        )


def domain_of(
    parameters: Mapping[str, Any], X: Array, names: Sequence[str] | None
) -> Domain | None:
    """The domain of the columns, or None if no column has bounds or a period.

    Parameters
    ----------
    parameters : mapping
        Checked by `check_domains`.
    X : array of shape (n, D)
        Rows, of which those on a bound or nearest to it, and the gaps in a circle, are looked for.
        Missing values are NaN.
    names : sequence of str, optional
        The names of the columns, if X had names.

    Raises
    ------
    ParameterError
        If there is no such column.
    ValueError
        If a row is beyond a bound.
    """
    bounds, periodic = (parameters[name] or {} for name in ("bounds", "periodic"))
    if not bounds and not periodic:
        return None
    n_features = X.shape[1]
    low, high = np.full(n_features, -np.inf), np.full(n_features, np.inf)
    margin, period = np.ones(n_features), np.zeros(n_features)
    cut, first = np.zeros(n_features), np.zeros(n_features)
    for given, pair in bounds.items():
        column = _index("bounds", given, names, n_features)
        low[column], high[column] = _bounds_of(given, pair)
        is_outside = (X[:, column] < low[column]) | (X[:, column] > high[column])
        if is_outside.any():
            row = int(is_outside.argmax())
            raise ValueError(
                f"X holds {X[row, column]:g} in row {row}, column {given!r}, one of "
                f"{is_outside.sum()} values beyond its bounds {low[column]:g} and "
                f"{high[column]:g}: change the bounds, or leave out these rows."
            )
        known = X[~np.isnan(X[:, column]), column]
        margin[column] = _margin(known, low[column], high[column])
    for given, length in periodic.items():
        column = _index("periodic", given, names, n_features)
        period[column] = length
        if np.isfinite(low[column]) or np.isfinite(high[column]):
            raise ParameterError("periodic", f" and bounds both have the column {given!r}.")
        cut[column] = _emptiest(X[:, column], period[column])
        first[column] = _beginning(X[:, column], period[column])
    return Domain(*map(torch.from_numpy, (low, high, margin, period, cut, first)))


def refuse_beyond(domain: Domain, least: Array, largest: Array, names: Sequence[str]) -> None:
    """Raise ValueError if the range of a column, from `least` to `largest`, leaves its bounds."""
    low, high = domain.low.numpy(), domain.high.numpy()
    found = np.flatnonzero((least < low) | (largest > high))
    if len(found):
        column = found[0]
        raise ValueError(
            f"X goes from {least[column]:g} to {largest[column]:g} in {names[column]}, beyond its "
            f"bounds {low[column]:g} and {high[column]:g}: change the bounds, or leave out such "
            "rows."
        )


def _bounds_of(column: object, pair: Any) -> tuple[float, float]:
    fault = ParameterError(
        "bounds",
        f"[{column!r}]={pair!r} must be a pair of numbers, the lower one first, or None for no "
        f"bound, such as {_EXAMPLES['bounds']}.",
    )
    try:
        least, largest = pair
        low = -np.inf if least is None else float(least)
        high = np.inf if largest is None else float(largest)
    except (TypeError, ValueError):
        raise fault from None
    if not low < high or not np.isfinite([low, high]).any():
        raise fault
    return low, high


def _index(parameter: str, given: Any, names: Sequence[str] | None, n_features: int) -> int:
    """The index of a column that is given by its name or number."""
    if isinstance(given, str):
        known = [] if names is None else list(names)
        if given in known:
            return known.index(given)
        has = f"the columns {', '.join(known[:10])}" if known else "no names"
        raise ParameterError(parameter, f" names the column {given!r}, and X has {has}.")
    index = int(given)
    if not 0 <= index < n_features:
        raise ParameterError(
            parameter, f" names column {index}, and X has columns 0 to {n_features - 1}."
        )
    return index


def _margin(values: Array, low: float, high: float) -> float:
    """The margin of the bounds of a column; see `vmonf.model.Domain`."""
    distance = np.minimum(values - low, high - values)
    inside = distance[distance > 0]
    nearest = float(inside.min()) if len(inside) else 1.0
    return nearest * (0.5 if len(inside) < len(distance) else SMALL_MARGIN)


def _emptiest(values: Array, period: float) -> float:
    """The middle of the widest gap between the angles, or of the emptiest part of the circle."""
    angles = np.unique(values % period)
    gaps = np.diff(angles, append=angles[0] + period)
    widest = int(gaps.argmax())
    if gaps[widest] > period / N_ARCS:
        return float((angles[widest] + 0.5 * gaps[widest]) % period)
    counts, edges = np.histogram(values % period, N_ARCS, (0, period))
    # A part that is as empty as others by chance must not lie in a peak.
    smooth = sum(np.roll(counts, turn) for turn in (-1, 0, 1))
    return float(edges[int(np.argmin(smooth))] + 0.5 * period / N_ARCS)


def _beginning(values: Array, period: float) -> float:
    """Where the interval of one period begins that users write the angles in."""
    for first in (0.0, -0.5 * period):
        if first <= values.min() and values.max() <= first + period:
            return first
    return float(values.min())
