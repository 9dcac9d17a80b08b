"""What users give to `fit`, made ready: labels, distinct rows, scales. numpy only."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    IntArray = NDArray[np.int64]


def encode_labels(y: NDArray[Any], n_components: int) -> tuple[NDArray[Any], IntArray]:
    """Give each class a component, and each other component a name.

    Parameters
    ----------
    y : array of shape (n,)
        Whole numbers or strings. Unlabelled rows have -1, or among strings also "-1", "" or
        None.
    n_components : int

    Returns
    -------
    classes : array of shape (K,)
        What `predict` calls each component: first the classes found in y, sorted, then new
        names for the components that no label claims: the next whole numbers, or "new_0",
        "new_1", ... There are as many as classes, where that is more than asked for.
    component : int array of shape (n,)
        The component of each row; -1 where it is not labelled.

    Raises
    ------
    ValueError
        If y holds numbers that are not whole, or neither numbers nor strings.
    """
    labels: NDArray[Any]
    if y.dtype.kind in "biuf":
        labels = _whole_numbers(y)
        unlabelled = labels == -1
    else:
        values = [_plain(value) for value in y.tolist()]
        unlabelled = np.array([value in (None, "", "-1", -1) for value in values], dtype=bool)
        kinds = {type(value) for value, skip in zip(values, unlabelled, strict=True) if not skip}
        if kinds <= {int, float, bool}:
            numbers = [-1 if skip else v for v, skip in zip(values, unlabelled, strict=True)]
            labels = _whole_numbers(np.array(numbers, dtype=float))
        elif kinds == {str}:
            labels = np.array([str(value) for value in values])
        else:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise ValueError(
                f"Unknown label type: y mixes or holds {names}; give whole numbers or strings, "
                "and -1 for unlabelled rows."
            )
    found, codes = np.unique(labels[~unlabelled], return_inverse=True)
    if len(found) > n_components:
        warnings.warn(
            f"y has {len(found)} classes and n_components={n_components}: every class needs a "
            f"component of its own, so {len(found)} components are fitted.",
            stacklevel=3,
        )
        n_components = len(found)
    component = np.full(len(y), -1, dtype=np.int64)
    component[~unlabelled] = codes
    n_new = n_components - len(found)
    if found.dtype.kind == "U":
        candidates = (f"new_{i}" for i in range(n_components + n_new))
        free = [name for name in candidates if name not in set(found)][:n_new]
        classes = np.array([*found, *free])
    else:
        first_new = max(int(found.max()) + 1, 0) if len(found) else 0
        classes = np.concatenate([found.astype(np.int64), first_new + np.arange(n_new)])
    return classes, component


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    missing = type(value).__name__ in ("NAType", "NaTType")  # pandas' own
    return None if missing or (isinstance(value, float) and np.isnan(value)) else value


def _whole_numbers(y: NDArray[Any]) -> IntArray:
    if y.dtype.kind == "f":
        y = np.where(np.isnan(y), -1, y)
        wrong = ~(np.isfinite(y) & (y == np.floor(y)))
        if wrong.any():
            raise ValueError(
                f"Unknown label type: continuous. y[{int(wrong.argmax())}] = "
                f"{y[wrong.argmax()]} is no class label; give whole numbers or strings, and "
                "-1 for unlabelled rows."
            )
    return y.astype(np.int64)


#: Rows whose quantiles are taken.
QUANTILE_ROWS = 10_000


@dataclass(frozen=True)
class DistinctRows:
    """The rows of a table, each once, in an order that does not depend on the table's.

    A row given twice and a row of weight two are then the same thing, and a fit does not
    depend on the order of its rows.

    Attributes
    ----------
    X : array of shape (m, D)
    weight : array of shape (m,)
        Sums of the weights of equal rows, scaled to a mean of one.
    component : int array of shape (m,)
    first : int array of shape (m,)
        Where in the table each row stands first.
    """

    X: Array
    weight: Array
    component: IntArray
    first: IntArray

    @classmethod
    def of(cls, X: Array, weight: Array, component: IntArray) -> DistinctRows:
        """Merge equal rows of equal label; rows of weight zero are left out."""
        kept = np.flatnonzero(weight > 0)
        X, weight, component = X[kept] + 0.0, weight[kept], component[kept]  # -0.0 becomes 0.0
        key = _hash(X, component)
        order = np.argsort(key, kind="stable")
        X, weight, component, key = X[order], weight[order], component[order], key[order]
        same = key[1:] == key[:-1]
        if same.any():
            pairs = np.flatnonzero(same)
            same[pairs] = (X[pairs] == X[pairs + 1]).all(axis=1) & (
                component[pairs] == component[pairs + 1]
            )
        starts = np.concatenate([[0], np.flatnonzero(~same) + 1])
        weight = np.add.reduceat(weight, starts)
        return cls(X[starts], weight / weight.mean(), component[starts], kept[order][starts])


def _hash(X: Array, component: IntArray) -> NDArray[np.uint64]:
    """A 64-bit key of each row: multiply, rotate and exclusive-or, column by column."""
    bits = np.ascontiguousarray(X).view(np.uint64)
    key = component.astype(np.uint64)
    for column in range(bits.shape[1]):
        key = (key ^ bits[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return key


def shift_and_scale(X: Array, weight: Array, names: list[str]) -> tuple[Array, Array]:
    """Weighted mean of each column, and a width that a few far rows cannot stretch.

    The width is the standard deviation, but at most three times the distance between the 5%
    and the 95% quantile, unless these are equal.

    Raises
    ------
    ValueError
        If a column is constant: no density is finite there.
    """
    # Centred on its first value before any sum, so that a large offset costs no digits; and
    # divided by its range, so that no square under- or overflows.
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
    # Distinct rows come in no order of their own, so the first are as good as any.
    few = slice(QUANTILE_ROWS)
    between = np.array(
        [_quantile_range(column, weight[few]) for column in np.ascontiguousarray(unit[few].T)]
    )
    width = np.where(between > 0, np.minimum(deviation, 3 * between), deviation)
    return origin + spread * mean, spread * width


def warn_of_repeated_values(X: Array, names: list[str]) -> None:
    """Warn of columns in which one value is held by more than half of the rows."""
    few = np.sort(X[:QUANTILE_ROWS], axis=0)
    # What more than half of the rows hold stands in the middle of the sorted column.
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
            f"A density grows without bound where values repeat: {listed}{more}; drop such "
            "columns, or add noise of the size of their steps.",
            stacklevel=4,
        )


def _quantile_range(column: Array, weight: Array) -> float:
    """Distance between the weighted 5% and 95% quantiles."""
    order = np.argsort(column, kind="stable")
    share = np.cumsum(weight[order])
    low, high = np.searchsorted(share, np.array([0.05, 0.95]) * share[-1])
    return float(column[order[high]] - column[order[low]])
