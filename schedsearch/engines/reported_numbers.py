"""The numbers that a training loop reports: of Python, or tensors with one element."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from schedsearch.errors import SchedSearchError, describe_value
from schedsearch.scheduler import as_float


def floats_of(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Return numbers of a saved state as floats, with their names as text."""
    return {str(name): float(value) for name, value in numbers.items()}


def finite_or_nan(given: Mapping[str, Any]) -> dict[str, float]:
    """Return what a loop reported as floats, with NaN for what is not finite.

    Raises:
        SchedSearchError: a value is not a number.
    """
    return {name: v if math.isfinite(v) else math.nan for name, v in numbers_of(given).items()}


def numbers_of(given: Mapping[str, Any]) -> dict[str, float]:
    """Return what a loop reported as floats.

    Raises:
        SchedSearchError: a value is not a number.
    """
    numbers = {}
    for name, value in given.items():
        try:
            numbers[name] = as_float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise SchedSearchError(
                f"the value of `{name}` is {describe_value(value)}, but must be a number"
            ) from None
    return numbers
