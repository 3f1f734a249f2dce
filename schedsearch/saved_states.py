"""Checks of the saved state of a scheduler: what a checkpoint says is input from strangers."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

from schedsearch.errors import InputError, describe_value
from schedsearch.schedules.parameters import is_finite

_MISSING = object()


def check_state(state: Any, keys: tuple[str, ...], expected: str) -> Mapping[str, Any]:
    """Return a state if it is a table with some keys.

    Args:
        state: what a user gave.
        keys: that every state of this kind has.
        expected: what the state must be, to follow "must be".

    Raises:
        InputError: it is none.
    """
    if not isinstance(state, Mapping):
        raise InputError(f"the state is {describe_value(state)}, but must be {expected}")
    if missing := [key for key in keys if key not in state]:
        names = ", ".join(f"`{key}`" for key in missing)
        raise InputError(f"the state has no {names}, but must be {expected}")
    return state


def whole_number(state: Mapping[str, Any], key: str, least: int = 0) -> int:
    """Return an entry of a state that counts something.

    Raises:
        InputError: it is not a whole number, or below the least.
    """
    value = state[key]
    if (number := as_whole(value)) is None or number < least:
        raise InputError(
            f"`{key}` of the state is {describe_value(value)}, but must be a whole number of at "
            f"least {least}"
        )
    return number


def as_whole(value: Any) -> int | None:
    """Return a whole number, also one of numpy or torch; None if it is another value.

    >>> as_whole(3), as_whole(3.0), as_whole(True)
    (3, None, None)
    """
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def check_plain(value: Any, key: str) -> None:
    """Check that a part of a state is plain data in which every number is finite.

    Raises:
        InputError: it is not; the message has its key.
        RecursionError: it is nested too deeply.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            check_plain(item, f"{key}.{name}")
    elif _is_list(value):
        for i, item in enumerate(value):
            check_plain(item, f"{key}.{i}")
    elif not isinstance(value, str | bool | None) and not (
        isinstance(value, int | float) and is_finite(value)
    ):
        raise InputError(
            f"`{key}` of the state is {describe_value(value)}, but must be a finite number"
        )


def check_types(value: Any, start: Any, key: str) -> None:
    """Check that a part of a state has the types that it had before the first epoch.

    None there is a number, or a list, that is not known yet. A table with other entries is that of
    another inner schedule, and is left to the schedule.

    Raises:
        InputError: it has not; the message has its key.
    """
    if isinstance(start, Mapping) and isinstance(value, Mapping):
        for name in start if start.keys() == value.keys() else ():
            check_types(value[name], start[name], f"{key}.{name}")
    elif start is None and (value is None or _is_number(value) or _is_list(value)):
        return
    elif not (_is_list(start) and _is_list(value) and len(start) == len(value)) and not (
        _is_number(start) and _is_number(value)
    ):
        raise InputError(
            f"`{key}` of the state is {describe_value(value)}, but must be like "
            f"{describe_value(start)}, with which the schedule begins"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def first_difference(saved: Any, own: Any) -> str | None:
    """Return the key at which two tables differ and its two values, or None if they are equal.

    >>> first_difference({"lr": {"a": 1.0, "b": 2.0}}, {"lr": {"a": 1.0, "b": 3.0}})
    'lr.b is 2.0 in the state, but 3.0 here'
    >>> first_difference({"lr": {}}, {"lr": {}, "l1": {}})
    'l1 is missing in the state'
    """
    return next(_differences(saved, own, ""), None)


def _differences(saved: Any, own: Any, key: str) -> Iterator[str]:
    if isinstance(saved, Mapping) and isinstance(own, Mapping):
        prefix = f"{key}." if key else ""
        for name in dict.fromkeys([*own, *saved]):
            pair = saved.get(name, _MISSING), own.get(name, _MISSING)
            yield from _differences(*pair, f"{prefix}{name}")
    elif _is_list(saved) and _is_list(own) and len(saved) == len(own):
        for i, pair in enumerate(zip(saved, own, strict=True)):
            yield from _differences(*pair, f"{key}.{i}")
    elif own is _MISSING:
        yield f"{key} is only in the state"
    elif saved is _MISSING:
        yield f"{key} is missing in the state"
    elif not _is_equal(saved, own):
        yield f"{key} is {describe_value(saved)} in the state, but {describe_value(own)} here"


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_equal(saved: Any, own: Any) -> bool:
    try:
        return bool(saved == own)
    except (TypeError, ValueError, RuntimeError):  # an array or a tensor
        return False
