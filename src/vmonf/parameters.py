"""Parameters: checks of their values, and specifications, which are groups of parameters.

This module imports neither other modules of vmonf nor torch or scikit-learn, so that every layer
can use it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable
from numbers import Integral, Real
from typing import Any


class ParameterError(ValueError):
    """The value of a parameter is not valid.

    Attributes
    ----------
    name : str
        The name of the parameter for `FlowMixture.set_params`, such as "flow__n_layers".
    fault : str
        The rest of the message, which follows the name, such as "=0 must be a whole number of at
        least 1."
    """

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"{name}{fault}")
        self.name = name
        self.fault = fault

    def within(self, owner: str) -> ParameterError:
        """The same error, with the name that the parameter has in the specification `owner`."""
        return ParameterError(f"{owner}__{self.name}", self.fault)


class Specification:
    """Base of frozen dataclasses that hold some parameters of an estimator.

    A subclass is a frozen dataclass whose fields are its parameters, all with defaults. As
    scikit-learn requires, the constructor stores the values unchanged, and `check` checks them.
    """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, as for scikit-learn's estimators."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: getattr(self, field.name) for field in fields}

    def check(self) -> None:
        """Raise `ParameterError` if a value is not valid."""


def check_whole_number(name: str, value: object, *, at_least: int) -> None:
    """Raise `ParameterError` unless the value is a whole number of at least `at_least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < at_least:
        raise ParameterError(name, f"={value!r} must be a whole number of at least {at_least}.")


def check_number(
    name: str,
    value: object,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Raise `ParameterError` unless the value is a finite number within the bounds."""
    if not isinstance(value, bool) and isinstance(value, Real):
        number = float(value)
        if at_least <= number < below and above < number < math.inf:
            return
    bounds = [
        f"{words} {bound:g}"
        for words, bound in (("at least", at_least), ("above", above), ("below", below))
        if math.isfinite(bound)
    ]
    raise ParameterError(name, f"={value!r} must be a number {' and '.join(bounds)}.")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise `ParameterError` unless the value is one of the names."""
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        raise ParameterError(name, f"={value!r} is not known: choose one of {', '.join(choices)}.")


def check_flag(name: str, value: object) -> None:
    """Raise `ParameterError` unless the value is True or False."""
    if type(value).__name__ not in ("bool", "bool_"):  # the latter is that of numpy 1
        raise ParameterError(name, f"={value!r} must be True or False.")


def check_widths(name: str, value: object) -> None:
    """Raise `ParameterError` unless the value is a sequence of positive whole numbers."""
    is_sequence = isinstance(value, Collection) and not isinstance(value, (str, bytes, dict))
    widths = list(value) if is_sequence and isinstance(value, Collection) else [None]
    if not all(isinstance(width, Integral) and int(width) > 0 for width in widths):
        raise ParameterError(
            name, f"={value!r} must be a sequence of positive whole numbers, such as (64, 64)."
        )
