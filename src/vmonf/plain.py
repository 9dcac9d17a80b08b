"""Conversion of values to types that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any, Literal

#: What `finite` writes in place of numbers that JSON lacks.
NonFinite = Literal["NaN", "Infinity", "-Infinity"]


def plain(value: Any) -> Any:
    """Convert a value to plain Python: numbers, strings, lists and dictionaries.

    Arrays and tuples become lists, numpy's numbers become Python's, paths and the keys of
    mappings become strings. Objects that have scikit-learn's `get_params` become a dictionary of
    their parameters, with the name of their class under "type". Functions become their names.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, PathLike):
        return fspath(value)
    if hasattr(value, "get_params"):
        return {"type": type(value).__name__, **plain(value.get_params(deep=False))}
    if callable(value):
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}.{named.__qualname__}"
    return value


def finite(value: Any) -> Any:
    """Replace numbers that strict JSON lacks by "NaN", "Infinity" or "-Infinity"."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def numbers(value: Any) -> Any:
    """The inverse of `finite`: "NaN", "Infinity" and "-Infinity" become numbers again."""
    if isinstance(value, dict):
        return {key: numbers(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [numbers(entry) for entry in value]
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value
