"""Arrays of users: what is no table of finite numbers is refused, with the place of the fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils.validation import validate_data

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

DATES = "X holds dates or durations: convert them to numbers, such as days since the first."


def checked_rows(
    estimator: Any, X: Any, *, reset: bool, at_least: int = 1, with_gaps: bool = False
) -> Array:
    """The rows of a user as finite numbers: float64 of shape (n, D).

    Parameters
    ----------
    estimator : FlowMixture
        Takes, or has, the number and the names of the features.
    X : array-like, DataFrame or torch.Tensor of shape (n, D)
        A tensor may be on any device, have any real type, and need gradients, which are not passed
        on.
    reset : bool
        Whether the estimator takes the features, or must have them.
    at_least : int
        Least number of rows.
    with_gaps : bool
        Whether values may be missing or masked, and are then NaN.

    Raises
    ------
    ValueError
        If X has another shape; or if it holds values that are not finite, dates, or no numbers, or,
        unless `with_gaps`, missing or masked. Where it can, the message names the first row,
        counted from 0, and the column.
    TypeError
        If X is a sparse matrix.
    """
    X = plain_array(X, "X", with_gaps=with_gaps)
    _refuse_columns(X)
    try:
        values: Array = validate_data(
            estimator,
            X,
            dtype=np.float64,
            reset=reset,
            ensure_min_samples=at_least,
            ensure_all_finite=False,
        )
    except TypeError as error:
        if any(word in str(error) for word in ("datetime", "Timestamp", "Timedelta", "Period")):
            raise ValueError(DATES) from error
        raise
    refuse_non_finite(values, column_names(estimator), with_gaps=with_gaps)
    return values


def plain_array(values: Any, name: str, *, with_gaps: bool = False) -> Any:
    """A tensor as an array of numpy, and anything else as it is.

    With `with_gaps`, masked values are NaN.

    Raises
    ------
    ValueError
        If the values are a sparse tensor, or some of them are masked.
    TypeError
        If the values are a sparse matrix of scipy.
    """
    if isinstance(values, torch.Tensor):
        if values.layout != torch.strided:
            raise ValueError(f"{name} is a sparse tensor: give a dense one, {name}.to_dense().")
        # numpy has no bfloat16. With `force` it takes tensors on GPUs, or that need gradients.
        return (values.double() if values.is_floating_point() else values).numpy(force=True)
    if issparse(values):
        # The type that scikit-learn raises.
        raise TypeError(
            f"{name} is a sparse matrix, and densities need every value: give a dense array, "
            f"{name}.toarray(), if it fits in memory."
        )
    if isinstance(values, np.ma.MaskedArray):
        if with_gaps:
            return np.ma.filled(values.astype(np.float64), np.nan)
        places = np.argwhere(np.ma.getmaskarray(values))
        if len(places):
            first = ", ".join(map(str, places[0]))
            raise ValueError(
                f"{name}[{first}] is masked, one of {len(places)} such values: fill them, or leave "
                "out their rows."
            )
        return values.data
    return values


def refuse_non_finite(values: Array, names: Sequence[str], *, with_gaps: bool = False) -> None:
    """Raise ValueError, with the first place and the count of each column, unless all are finite.

    With `with_gaps`, NaN is taken.

    Parameters
    ----------
    values : array of shape (n, D)
    names : sequence of str
        Names of the columns for the message.
    """
    is_gap = np.isinf(values) if with_gaps else ~np.isfinite(values)
    if not is_gap.any():
        return
    row, column = map(int, np.argwhere(is_gap)[0])
    fault = "NaN" if np.isnan(values[row, column]) else "infinity"
    counts = is_gap.sum(axis=0)
    order = [j for j in np.argsort(-counts, kind="stable") if counts[j]]
    shown = ", ".join(f"{names[j]}: {counts[j]}" for j in order[:5])
    more = f" and {len(order) - 5} more columns" if len(order) > 5 else ""
    raise ValueError(
        f"X contains {fault} in row {row}, {names[column]}, one of {counts.sum()} values that are "
        f"NaN or infinity ({shown}{more}): fill them, or leave out their rows or columns"
        + ("." if fault == "infinity" else "; or fit with missing='marginal'.")
    )


def column_names(estimator: Any) -> list[str]:
    """Names of the columns for messages."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return [f"column {index}" for index in range(estimator.n_features_in_)]
    return [f"column {name!r}" for name in names]


def _refuse_columns(X: Any) -> None:
    """Refuse dates and texts, by the name of their column in a DataFrame."""
    columns = getattr(X, "columns", None)
    if columns is None:
        if getattr(getattr(X, "dtype", None), "kind", "") in ("m", "M"):
            raise ValueError(DATES)
        return
    for name, kind in zip(list(columns), list(getattr(X, "dtypes", ())), strict=False):
        text = str(kind).lower()
        if text.startswith(("date", "time", "duration", "period")):
            raise ValueError(
                f"Column {name!r} of X holds dates or durations (its type is {kind}): convert it "
                "to a number, such as days since the first, or leave it out."
            )
        # Before version 3, texts in pandas are objects. polars converts lists of one length to a
        # further axis.
        if text.startswith("list") or (
            text.startswith(("str", "categor", "enum", "object")) and not _converts(X[name])
        ):
            raise ValueError(
                f"Column {name!r} of X holds no numbers (its type is {kind}): leave it out, or "
                "convert it."
            )


def _converts(column: Any) -> bool:
    """Whether a column of texts, categories or objects holds numbers after all."""
    try:
        np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return True
