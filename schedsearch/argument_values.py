"""Arguments of a task that belong to a plan: their values, and when two of them are equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from schedsearch.errors import InputError
from schedsearch.schedules.parameters import is_finite

_TYPES = (bool, int, float, str)  # bool first, since True is an int
#: Equal for arguments with equal values of equal types.
ArgumentKey: TypeAlias = frozenset[tuple[str, type, Any]]


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Check that each argument is text, a finite number, true or false.

    Raises:
        InputError: one is not.
    """
    for name, value in arguments.items():
        is_number = isinstance(value, int | float) and is_finite(value)
        if not isinstance(name, str) or not (is_number or isinstance(value, str)):
            raise InputError(
                f"the argument {name!r} is {value!r}, but must be text, a finite number, true or "
                "false"
            )


def argument_key(arguments: Mapping[str, Any]) -> ArgumentKey:
    """Return what tells arguments apart, also those that Python takes for equal.

    A task may treat `1`, `1.0` and `True` differently, so they are three values.

    >>> argument_key({"n": 1}) == argument_key({"n": 1}) != argument_key({"n": True})
    True
    """
    return frozenset((name, _type_of(value), value) for name, value in arguments.items())


def _type_of(value: Any) -> type:
    """Return the type of a value; of a subclass, such as a number of numpy, that of a file."""
    return next(kind for kind in _TYPES if isinstance(value, kind))
