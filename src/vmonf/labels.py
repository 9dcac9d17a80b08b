"""Labels: the assignment of each class of labels to a component."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]


def encode_labels(y: NDArray[Any], n_components: int) -> tuple[NDArray[Any], IntArray]:
    """Give each class a component, and each other component a name.

    Parameters
    ----------
    y : array of shape (n,)
        Whole numbers or strings. Unlabelled rows have -1 or NaN, and in arrays of objects or
        strings also "-1", "" or None.
    n_components : int
        The number of components asked for.

    Returns
    -------
    classes : array of shape (K,)
        The name of each component: first the classes found in y, sorted, then new names for the
        other components, which are the next whole numbers, or "new_0", "new_1", ... K is
        `n_components`, or the number of classes if that is larger.
    component : int array of shape (n,)
        The component of each row, or -1 if the row is not labelled.

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
                f"Unknown label type: y holds values of type {names}; give whole numbers or "
                "strings, not both, and -1 for unlabelled rows."
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
    missing = type(value).__name__ in ("NAType", "NaTType")  # the missing values of pandas
    return None if missing or (isinstance(value, float) and np.isnan(value)) else value


def _whole_numbers(y: NDArray[Any]) -> IntArray:
    if y.dtype.kind == "f":
        y = np.where(np.isnan(y), -1, y)
        wrong = ~(np.isfinite(y) & (y == np.floor(y)))
        if wrong.any():
            raise ValueError(
                f"Unknown label type: continuous (y[{int(wrong.argmax())}] = "
                f"{y[wrong.argmax()]}); give whole numbers or strings, and -1 for unlabelled "
                "rows."
            )
    return y.astype(np.int64)
