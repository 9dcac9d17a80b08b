"""Labels: the assignment of each class of labels to a component."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

LARGEST_EXACT_FLOAT = 2.0**53


def encode_labels(y: NDArray[Any], n_components: int | None) -> tuple[NDArray[Any], IntArray]:
    """Give each class a component, and each other component a name.

    Parameters
    ----------
    y : array of shape (n,)
        Whole numbers or strings. Unlabelled rows have -1 or NaN, and in arrays of objects or
        strings also "-1", "" or None.
    n_components : int or None
        The number of components asked for. None asks for the number of classes.

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
    LabelError
        If y holds numbers that are not whole, or neither numbers nor strings.
    """
    labels, is_labelled = read_labels(y)
    known = labels[is_labelled]
    found, codes = np.unique(
        known.astype(str) if known.dtype == object else known, return_inverse=True
    )
    if n_components is not None and len(found) > n_components:
        warnings.warn(
            f"y has {len(found)} classes and n_components={n_components}: every class needs a "
            f"component of its own, so {len(found)} components are fitted.",
            stacklevel=4,
        )
    component = np.full(len(y), -1, dtype=np.int64)
    component[is_labelled] = codes
    return with_new_names(found, n_components or 0), component


def with_new_names(found: NDArray[Any], n_components: int) -> NDArray[Any]:
    """The names of at least K components: those of the classes, and new ones for the others.

    Parameters
    ----------
    found : array
        The names of the classes, sorted: int64 or strings.
    n_components : int
        K. Nothing is added if there are as many classes.
    """
    n_new = max(n_components - len(found), 0)
    n_components = len(found) + n_new
    if found.dtype.kind == "U":
        candidates = (f"new_{i}" for i in range(n_components + n_new))
        free = [name for name in candidates if name not in set(found)][:n_new]
        return np.array([*found, *free])
    first_new = max(int(found.max()) + 1, 0) if len(found) else 0
    return np.concatenate([found.astype(np.int64), first_new + np.arange(n_new)])


def read_labels(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read labels, some of which may be missing.

    Parameters
    ----------
    y : array of shape (n,)
        Whole numbers, also as floats or booleans, or strings.

    Returns
    -------
    labels : array of shape (n,)
        int64, -1 where there is none; or object, each a str, "" where there is none.
    is_labelled : bool array of shape (n,)
        False where a row has no label: -1, which is scikit-learn's convention, NaN, None, or
        among strings also "-1" and blank ones.

    Raises
    ------
    LabelError
        If y holds numbers that are not whole, or neither numbers nor strings.
    """
    if y.dtype.kind in "biuf":
        numbers = _whole_numbers(y)
        return numbers, numbers != -1
    values = [_plain(value) for value in y.tolist()]
    is_labelled = np.array([value not in (None, "", "-1", -1) for value in values], dtype=bool)
    labels = [value for value, known in zip(values, is_labelled, strict=True) if known]
    kinds = {type(value) for value in labels}
    if kinds <= {int, float, bool}:
        filled = [v if known else -1 for v, known in zip(values, is_labelled, strict=True)]
        return _whole_numbers(np.array(filled, dtype=float)), is_labelled
    if kinds == {str}:
        names = [value if known else "" for value, known in zip(values, is_labelled, strict=True)]
        return np.array(names, dtype=object), is_labelled
    held = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise LabelError(
        f"Unknown label type: y holds values of type {held}; give whole numbers or strings, not "
        "both, and -1 for unlabelled rows."
    )


class LabelError(ValueError):
    """A label is neither a whole number nor a string.

    Attributes
    ----------
    row : int or None
        The row of the first such label, counted from 0, where there is one.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


def _plain(value: Any) -> Any:
    """A number or string in plain Python, None where it is missing or blank."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, str):
        return value.strip() if value.strip() in ("", "-1") else value
    missing = type(value).__name__ in ("NAType", "NaTType")  # pandas' own
    return None if missing or (isinstance(value, float) and np.isnan(value)) else value


def _whole_numbers(y: NDArray[Any]) -> IntArray:
    if y.dtype.kind == "f":
        y = np.where(np.isnan(y), -1, y)
        # Beyond 2^53 floats cannot represent every whole number.
        wrong = ~((np.abs(y) <= LARGEST_EXACT_FLOAT) & (y == np.floor(y)))
        if wrong.any():
            row = int(wrong.argmax())
            raise LabelError(
                f"Unknown label type: continuous (y[{row}] = {y[row]}); give whole numbers or "
                "strings, and -1 for unlabelled rows.",
                row,
            )
    return y.astype(np.int64)
