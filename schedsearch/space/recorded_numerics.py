"""Checks the numerics that a config or a study records: strangers may have written them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schedsearch.cores import MAX_THREADS
from schedsearch.errors import InputError

#: More lanes than a machine has room for.
_LIMITS = {"threads": MAX_THREADS, "lanes": 2**16, "processes": 2**16}


def invalid_numerics(recorded: object) -> str | None:
    """Return what is wrong with recorded numerics; None if they are valid.

    >>> invalid_numerics({"engine": "lanes", "threads": 10**9, "lanes": 8})
    'numerics.threads is 1000000000, but must be a whole number from 1 to 4096'
    """
    if not isinstance(recorded, dict):
        return "the numerics are not a table"
    for key, limit in _LIMITS.items():
        value = recorded.get(key, 1)
        if type(value) is not int or not 1 <= value <= limit:
            return f"numerics.{key} is {value!a}, but must be a whole number from 1 to {limit}"
    for key in ("engine", "device"):
        if not isinstance(recorded.get(key, ""), str):
            return f"numerics.{key} is {recorded[key]!a}, but must be text"
    return None


def recorded_processes(recorded: Mapping[str, Any]) -> int:
    """Return how many processes train a run together, according to recorded numerics.

    Raises:
        InputError: the numerics are invalid.
    """
    if wrong := invalid_numerics(dict(recorded)):
        raise InputError(wrong)
    return int(recorded.get("processes", 1))
