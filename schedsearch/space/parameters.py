"""The Optuna parameters with which a domain gives a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from schedsearch.space.domains import Choices, Domain, Fixed, Levels, Range


def parameters_for(domain: Domain, name: str, value: Any) -> dict[str, Any] | None:
    """Return the Optuna parameters with which a domain gives a value; None if it does not."""
    found = value_in(domain, value)
    if found is None:
        return None
    match domain:
        case Levels(values):
            return {f"{name}.level": values.index(found)}
        case Fixed():
            return {}
    return {name: found}


def value_in(domain: Domain, value: Any) -> Any:
    """Return the value of a domain that equals a value; None if there is none.

    A task may treat 1 and 1.0 differently, so the result has the type that the domain gives. True
    and false are no numbers.
    """
    match domain:
        case Range(low, high, step=step, whole=whole) if _is_number(value) and low <= value <= high:
            unit = step or (1.0 if whole else None)
            steps = (value - low) / unit if unit else 0.0
            if not math.isclose(steps, round(steps), abs_tol=1e-9):
                return None
            return round(value) if whole else float(value)
        case Levels(values) | Choices(values):
            return _equal_one(values, value)
        case Fixed(fixed):
            return _equal_one([fixed], value)
    return None


def _equal_one(values: Sequence[Any], value: Any) -> Any:
    """Return the first of some values that equals another one; None if none does."""
    is_number = _is_number(value)
    return next((each for each in values if each == value and _is_number(each) == is_number), None)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
