"""The exceptions of schedsearch and their exit codes.

SchedSearchError                  the operation failed: exit 1
├── DamagedStudyError             an attribute of a study in the database is not valid: exit 1
├── DatabaseFileLostError         the file of the database was deleted or replaced: exit 1
├── DatabaseUnavailableError      stopped while the database was unreachable: exit 130
└── InputError                    an argument, a file or a database is invalid: exit 2
    ├── ParameterError            a parameter of a schedule family breaks a rule
    ├── FileError                 a space or a config has mistakes: lists all of them
    ├── TaskError                 a task cannot be imported or is invalid
    ├── TrainingRefusedError      a training would not follow its plan
    │   └── CheckpointRefusedError    a training cannot continue from a checkpoint
    ├── UnknownNameError          no hyperparameter has this name; also a KeyError
    ├── StudyError                a study is missing or unsuitable for the command
    └── StorageError              a database cannot be opened, read or written
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from schedsearch.printable import printable_line


class SchedSearchError(Exception):
    """The base class of all errors that schedsearch raises; the command exits with status 1."""

    exit_code = 1


class DatabaseFileLostError(SchedSearchError):
    """The file of the database was deleted, moved or replaced while it was in use."""


class DatabaseUnavailableError(SchedSearchError):
    """A stop signal came while the database was unreachable; the command exits with status 130."""

    exit_code = 130


class InputError(SchedSearchError):
    """An argument, a file or a database is invalid; the command exits with status 2.

    The message names the value, the rule, and what to do.
    """

    exit_code = 2


class ParameterError(InputError):
    """A parameter of a schedule family breaks a rule.

    Attributes:
        owner: the family.
        name: the name of the parameter.
        value: its value.
        rule: the rule, to follow "must be".

    >>> str(ParameterError("exponential", "decay_rate", 0, "greater than 0"))
    'exponential: the value of `decay_rate` is 0, but must be greater than 0'
    """

    def __init__(self, owner: str, name: str, value: Any, rule: str) -> None:
        shown = describe_schedules(value) or repr(value)
        super().__init__(f"{owner}: the value of `{name}` is {shown}, but must be {rule}")
        self.owner, self.name, self.value, self.rule = owner, name, value, rule

    def within(self, place: str) -> ParameterError:
        """Return the error with the place of the schedule, such as its hyperparameter."""
        return ParameterError(f"{place}: {self.owner}", self.name, self.value, self.rule)


@dataclass(frozen=True)
class Problem:
    """One mistake in a file: its key, the rule, the value, and a hint how to correct it."""

    key: str
    rule: str
    value: Any = None
    hint: str | None = None

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {_shorten(repr(self.value))}"
        hint = f" (hint: {self.hint})" if self.hint else ""
        return printable_line(f"{self.key}{shown}: {self.rule}{hint}")


def _shorten(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


class FileError(InputError):
    """A space or a config has mistakes; the message has one line for each.

    Attributes:
        file: the name of the file.
        problems: all mistakes, each with `key`, `rule`, `value` and `hint`.
    """

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(f"{file}: {problem}" for problem in problems))
        self.file, self.problems = file, tuple(problems)


class TaskError(InputError):
    """A task cannot be imported or does not implement the Task protocol."""


class TrainingRefusedError(InputError):
    """A training would not follow its plan; it stops a search at once, since no trial could."""


class CheckpointRefusedError(TrainingRefusedError):
    """A training cannot continue by its plan from a checkpoint; a trial begins again without it."""


class UnknownNameError(InputError, KeyError):
    """No hyperparameter has the name with which a value was read.

    >>> str(UnknownNameError("learning_rate", ["lr", "weight_decay"]))
    'there is no hyperparameter `learning_rate`: the names are lr, weight_decay'
    """

    def __init__(self, name: object, known: Iterable[str]) -> None:
        names = list(known)
        hint = did_you_mean(name, names) if isinstance(name, str) else None
        hint = f"{hint} " if hint else ""
        given = f"the names are {', '.join(names)}" if names else "there are none"
        super().__init__(printable_line(f"there is no hyperparameter `{name}`: {hint}{given}"))

    def __str__(self) -> str:
        # A KeyError shows its argument in quotes.
        return str(self.args[0])


class StudyError(InputError):
    """A study is missing or unsuitable for the command."""


class StorageError(InputError):
    """A database cannot be opened, read or written."""


class DamagedStudyError(SchedSearchError):
    """An attribute of a study or of a trial in the database is missing or not valid.

    Attributes:
        study: the name of the study.

    >>> str(DamagedStudyError("small", 3, "every", "x", "a whole number from 1"))
    "study `small`, trial 3: the attribute `every` is 'x', but must be a whole number from 1"
    """

    def __init__(
        self, study: str, trial: int | None, attribute: str, value: Any, rule: str
    ) -> None:
        shown = "null" if value is None else describe_value(value)
        problem = f"is {shown}, but must be {rule}"
        super().__init__(_locate_damage(study, trial, attribute, problem))
        self.study = study

    @classmethod
    def missing(cls, study: str, trial: int | None, attribute: str, rule: str) -> DamagedStudyError:
        """Return the error about an attribute that is missing."""
        error = cls(study, trial, attribute, None, rule)
        problem = f"is missing, but must be {rule}"
        error.args = (_locate_damage(study, trial, attribute, problem),)
        return error


def _locate_damage(study: str, trial: int | None, attribute: str, problem: str) -> str:
    place = f"study `{study}`" + ("" if trial is None else f", trial {trial}")
    return printable_line(f"{place}: the attribute `{attribute}` {problem}")


def describe_value(value: Any) -> str:
    """Return a value for a message; a nested one may be too deep to be shown."""
    try:
        return printable_line(_shorten(repr(value)))
    except (RecursionError, ValueError):
        return "too deep or too long to be shown"


def describe_schedules(value: Any) -> str | None:
    """Return which schedule a parameter has, or how many; None if its value is another one."""
    items = value if isinstance(value, tuple | list) else (value,)
    if not items or not all(hasattr(type(item), "family") for item in items):
        return None
    if items is value:
        return f"{len(items)} schedule{'' if len(items) == 1 else 's'}"
    parameters = ", ".join(
        f"{name}={number!r}"
        for name, number in vars(value).items()
        if isinstance(number, str | int | float) and name != "version"
    )
    return f"{value.family}({parameters})"


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return a hint with the most similar known name, or None if no name is similar.

    >>> did_you_mean("exponental", ["exponential", "linear"])
    'did you mean `exponential`?'
    """
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean `{printable_line(close[0])}`?" if close else None


def summarize_exception(error: Exception) -> str:
    """Return the type and the message of an exception in one line.

    >>> summarize_exception(ValueError("first line\\nsecond line"))
    'ValueError: first line second line'
    """
    return printable_line(" ".join(f"{type(error).__name__}: {error}".split()))
