"""Everything that schedsearch raises on purpose.

SchedSearchError              the work failed: exit 1
├── DatabaseUnavailableError               it was stopped while its database was away: exit 130
└── InputError                what a person gave is wrong: exit 2
    ├── ParameterError        a family's parameter breaks its rule
    ├── FileError             a space or a config has mistakes: all of them at once
    ├── TaskError             a task does not import, or is not a task
    ├── StudyError            a study is missing, or is not what the command takes it for
    └── StorageError          a database that cannot be opened or written
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


class SchedSearchError(Exception):
    """The root of the tree; its message is written for the person at the terminal."""

    exit_code = 1


class DatabaseUnavailableError(SchedSearchError):
    """The database does not answer, and who waited for it was told to stop."""

    exit_code = 130


class InputError(SchedSearchError):
    """What a person gave is wrong, and the message says what to give instead."""

    exit_code = 2


class ParameterError(InputError):
    """A parameter of a schedule family breaks a rule.

    >>> str(ParameterError("exponential", "decay_rate", 0, "greater than 0"))
    'exponential: the value of `decay_rate` is 0, but must be greater than 0'
    """

    def __init__(self, owner: str, name: str, value: Any, rule: str) -> None:
        super().__init__(f"{owner}: the value of `{name}` is {value!r}, but must be {rule}")
        self.name, self.value, self.rule = name, value, rule


@dataclass(frozen=True)
class Problem:
    """One mistake in a file: where, what stands there, the rule it breaks, what may be meant."""

    key: str
    rule: str
    value: Any = None
    hint: str | None = None

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {_shorten(repr(self.value))}"
        key = self.key if self.key.isprintable() else repr(self.key)
        return f"{key}{shown}: {self.rule}" + (f" (hint: {self.hint})" if self.hint else "")


def _shorten(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


class FileError(InputError):
    """All mistakes of one space or config file, a line each."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(f"{file}: {problem}" for problem in problems))
        self.file, self.problems = file, tuple(problems)


class TaskError(InputError):
    """A task does not import, or does not keep the Task protocol."""


class StudyError(InputError):
    """A study is missing, or is not what the command takes it for."""


class StorageError(InputError):
    """A database that cannot be opened, read or written."""


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return the hint that names the closest known name, if any is close.

    >>> did_you_mean("exponental", ["exponential", "linear"])
    'did you mean `exponential`?'
    """
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean `{close[0]}`?" if close else None


def summarize_exception(error: Exception) -> str:
    """Return the type and the message of an exception in one line.

    >>> summarize_exception(ValueError("first line\\nsecond line"))
    'ValueError: first line second line'
    """
    return " ".join(f"{type(error).__name__}: {error}".split())
