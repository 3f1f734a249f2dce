"""What the user's code raises, in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from schedsearch.errors import TaskError

_T = TypeVar("_T")


def one_line(error: Exception) -> str:
    """Return the kind of an exception and its message, whatever its line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def call_user_code(what: str, function: Callable[[], _T]) -> _T:
    """Return what a part of a task returns; what it raises becomes a TaskError of one line."""
    try:
        return function()
    except Exception as error:
        raise TaskError(f"{what} raises {one_line(error)}") from error
