"""The rules for attributes of studies and trials: a database may be the work of strangers.

Attributes are checked where they are read, so that the rest of the program can trust their types.
Attributes without a rule belong to other tools, and are not used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from schedsearch.errors import DamagedStudyError, InputError
from schedsearch.plan import Plan
from schedsearch.space.recorded_numerics import invalid_numerics
from schedsearch.storage.attributes import (
    ACCEPTED_TASKS,
    AUDITED,
    BASELINE,
    CLAMPED,
    CONFIRMED_TRIAL,
    CONFIRMS,
    CONSTANT,
    DIVERGED,
    EPOCH_TIMEOUT,
    EPOCHS,
    EPOCHS_TRAINED,
    EVERY,
    EXPLAINS,
    FINGERPRINT,
    FORECAST,
    FROM_EPOCH,
    FROM_STUDY,
    NUMERICS,
    PARENT,
    PLAN,
    RACED_TRIAL,
    REFUSED,
    RETRY_OF,
    RUNS,
    SAMPLE_INDEX,
    SEED,
    SPACE,
    STOPPED_AFTER,
    STRETCHED,
    SUPERSEDED_BY,
    TAKEN_FROM,
    TASK_PARTS,
    TERMS,
    TEST,
    TEST_METRICS,
    TRACEBACK,
    TRIALS,
    UNPRUNED,
    USER_PLAN,
    VALIDATION,
    VALUES,
    WORKER,
    WOULD_PRUNE,
)

#: Whole numbers of databases and of numpy have 64 bits.
_INTEGER_LIMIT = 2**63
#: The most epochs of a training: see `Document.horizon`.
_MAX_EPOCHS = 1_000_000
_SEED_LIMIT = 2**32
#: The points of each path that is recorded of an earlier study.
PATH_POINTS = 10
#: Recorded values are smaller than this, so that sums of their squares are finite.
PATH_LIMIT = 1e30
#: The exceptions of code that reads data of another shape.
SHAPE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Rule:
    """A rule for the value of an attribute: its words follow "must be"."""

    words: str
    is_kept: Callable[[Any], bool]


def parse_attribute(
    text: str, rules: Mapping[str, Rule], key: str, *, study: str, trial: int | None = None
) -> Any:
    """Return the value of an attribute from its JSON text.

    Raises:
        DamagedStudyError: the text is not JSON, or the value breaks its rule.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError, TypeError):
        raise DamagedStudyError(study, trial, key, text, "valid JSON") from None
    check_attribute(value, rules, key, study=study, trial=trial)
    return value


def check_attribute(
    value: Any, rules: Mapping[str, Rule], key: str, *, study: str, trial: int | None = None
) -> None:
    """Check the value of an attribute.

    Raises:
        DamagedStudyError: the value breaks its rule.
    """
    rule = rules.get(_without_number(key))
    if rule is not None and not rule.is_kept(value):
        raise DamagedStudyError(study, trial, key, value, rule.words)


def _without_number(key: str) -> str:
    """Return the key without the number of an attribute that there may be several of.

    The parts of a task are continued as task_parts_1, task_parts_2 and so on.
    """
    # In a SQLite file of another program a key may be bytes.
    several = (name for name in (TASK_PARTS, FROM_STUDY) if str(key).startswith(f"{name}_"))
    return next(several, key)


def is_whole(value: Any, low: int = 0, high: int = _INTEGER_LIMIT) -> bool:
    """Return whether a value is a whole number in [low, high); true and false are none."""
    return type(value) is int and low <= value < high


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number."""
    if type(value) is int:
        return abs(value) < _INTEGER_LIMIT
    return type(value) is float and math.isfinite(value)


def _is_flag(value: Any) -> bool:
    return type(value) is bool


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_line(value: Any) -> bool:
    return type(value) is str and "\n" not in value


def _is_whole_or_null(value: Any) -> bool:
    return value is None or is_whole(value)


def _is_number_or_null(value: Any) -> bool:
    return value is None or is_number(value)


def has_plan_tables(value: Any) -> bool:
    """Return whether a value consists of the tables that a plan has."""
    try:
        if not all(map(_is_table_of_tables, (value["hyperparameters"], value.get("groups", {})))):
            return False
        tables = [*value["hyperparameters"].values(), *value.get("groups", {}).values()]
        if not all(isinstance(table.get("families", {}), dict) for table in tables):
            return False
        if not isinstance(value.get("arguments", {}), dict):
            return False
        return all(_are_names(group["members"]) for group in value.get("groups", {}).values())
    except SHAPE_ERRORS:
        return False


def _is_plan(value: Any) -> bool:
    """Return whether a value is the tables of a valid plan."""
    if not has_plan_tables(value):
        return False
    try:
        Plan.from_tables(value)
    except (InputError, *SHAPE_ERRORS):
        return False
    return True


def _is_table_of_tables(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(table, dict) for table in value.values())


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(type(name) is str for name in value)


def _are_curves(value: Any) -> bool:
    """Return whether a value is a number, or a list of numbers by epoch, for each name."""
    return isinstance(value, dict) and all(
        all(map(_is_number_or_null, curve)) and 0 < len(curve) <= _MAX_EPOCHS
        if isinstance(curve, list)
        else _is_number_or_null(curve)
        for curve in value.values()
    )


def _are_runs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(run, dict)
        and run.keys() - {"stopped_after"} == {"seed", "value"}
        and is_whole(run.get("stopped_after", 1), 1, _MAX_EPOCHS + 1)
        and is_whole(run["seed"], high=_SEED_LIMIT)
        and _is_number_or_null(run["value"])
        for run in value
    )


def _are_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_whole, value.values()))


def _is_forecast(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and is_whole(value[0], 1, _MAX_EPOCHS + 1)
        and all(map(is_number, value[1:]))
    )


_FLAGS_OF_NUMERICS = ("compiled", "tf32", "autocast")
#: Settings that the record of every study has.
_REQUIRED_NUMERICS = frozenset({"engine", "threads", "device", "torch"})


def _are_numerics(value: Any) -> bool:
    """Return whether a value is a record of numerics; see `current_numerics`."""
    return _are_some_numerics(value) and value.keys() >= _REQUIRED_NUMERICS


def _are_some_numerics(value: Any) -> bool:
    """Return whether a value is part of a record of numerics."""
    return (
        isinstance(value, dict)
        and invalid_numerics(value) is None
        and value.get("engine", "loop") in ("sequential", "lanes", "loop")
        and all(_is_flag(value.get(key, False)) for key in _FLAGS_OF_NUMERICS)
        and all(
            _is_line(setting) or is_number(setting) or _is_flag(setting)
            for setting in value.values()
        )
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _are_lines(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_line, value))


def _are_versions(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(version, dict) and _is_line(version.get("fingerprint")) for version in value
    )


def _is_epoch_budget(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"epochs", "horizon"}
        and is_whole(value["epochs"], 1)
        and is_whole(value["horizon"], 1, _MAX_EPOCHS + 1)
    )


def _is_earlier_study(value: Any) -> bool:
    """Return whether a value is the record of an earlier study; see `EarlierStudy`."""
    try:
        count, names = len(value["ranks"]), len(value["hyperparameters"])
        numbers = [n for path in value["paths"] for point in path for n in point]
        return (
            all(_is_line(value[key]) for key in ("study", "task", "metric"))
            and is_whole(value["horizon"], 1, _MAX_EPOCHS + 1)
            and is_whole(value["trials"])
            and names > 0
            and _are_names(value["hyperparameters"])
            and all(is_number(rank) and 0 < rank < 1 for rank in value["ranks"])
            and len(value["paths"]) == count
            and all(len(path) == PATH_POINTS for path in value["paths"])
            and all(len(point) == names for path in value["paths"] for point in path)
            and all(is_number(number) and abs(number) < PATH_LIMIT for number in numbers)
        )
    except SHAPE_ERRORS:
        return False


def _is_origin(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"study", "trial"}
        and _is_line(value["study"])
        and is_whole(value["trial"])
    )


_FLAG = Rule("true or false", _is_flag)
_NAME = Rule("text of one line", _is_line)
_NUMBER_OF_TRIAL = Rule("the number of a trial", is_whole)
_NUMBER_OF_TRIAL_OR_NULL = Rule("the number of a trial, or null", _is_whole_or_null)
_EPOCH = Rule("a number of epochs", lambda value: is_whole(value, high=_MAX_EPOCHS + 1))
_CURVES = Rule("a number, or a list of numbers by epoch, for each name", _are_curves)

#: The rules for the attributes of a study; its space and its confirmation are checked by `Space`
#: and by `confirmation_result`.
STUDY_RULES: Mapping[str, Rule] = {
    TRIALS: Rule("a number of trials", lambda value: is_whole(value, high=2**31)),
    EPOCHS: Rule("a table with `epochs` and `horizon`, whole numbers", _is_epoch_budget),
    EPOCH_TIMEOUT: Rule(
        "a number of seconds", lambda value: value is None or (is_number(value) and value > 0)
    ),
    NUMERICS: Rule(
        "a table with `engine`, `device`, `torch`, `threads` (1 to 4096) and `lanes` (1 to 65536)",
        _are_numerics,
    ),
    FINGERPRINT: _NAME,
    SPACE: Rule("a table", lambda value: isinstance(value, dict)),
    CONFIRMS: _NAME,
    EXPLAINS: _NAME,
    PARENT: _NAME,
    TASK_PARTS: Rule("the hash of each part of the task, by name", _are_texts),
    ACCEPTED_TASKS: Rule("a list of versions, each with its `fingerprint`", _are_versions),
    STRETCHED: _FLAG,
    FROM_STUDY: Rule(
        "a table with `study`, `task`, `metric`, `horizon`, `trials`, `hyperparameters`, and a "
        f"path for each of its `ranks`, of {PATH_POINTS} points with values below {PATH_LIMIT:g}",
        _is_earlier_study,
    ),
    TEST_METRICS: Rule("a list of names", _are_lines),
}
#: The rules for the attributes of a trial.
TRIAL_RULES: Mapping[str, Rule] = {
    PLAN: Rule("the tables of a valid plan", _is_plan),
    BASELINE: _FLAG,
    UNPRUNED: _FLAG,
    AUDITED: _FLAG,
    CONSTANT: _FLAG,
    USER_PLAN: _NAME,
    TAKEN_FROM: Rule("a table with `study` and `trial`", _is_origin),
    WORKER: _NAME,
    NUMERICS: Rule("a table with some of the keys of the study's numerics", _are_some_numerics),
    TRACEBACK: Rule("text", _is_text),
    REFUSED: Rule("text", _is_text),
    SEED: Rule("a seed", lambda value: is_whole(value, high=_SEED_LIMIT)),
    SAMPLE_INDEX: Rule("the index of a sample", lambda value: is_whole(value, high=2**31)),
    CONFIRMED_TRIAL: _NUMBER_OF_TRIAL,
    RACED_TRIAL: _NUMBER_OF_TRIAL,
    PARENT: _NUMBER_OF_TRIAL,
    RETRY_OF: _NUMBER_OF_TRIAL,
    SUPERSEDED_BY: _NUMBER_OF_TRIAL_OR_NULL,
    FROM_EPOCH: _EPOCH,
    WOULD_PRUNE: _EPOCH,
    FORECAST: Rule("an epoch and three numbers", _is_forecast),
    DIVERGED: _EPOCH,
    STOPPED_AFTER: _EPOCH,
    EPOCHS_TRAINED: Rule("a number of epochs", is_whole),
    EVERY: Rule("a whole number from 1", lambda value: is_whole(value, 1, _MAX_EPOCHS + 1)),
    VALUES: _CURVES,
    TERMS: _CURVES,
    RUNS: Rule("a list with the `seed` and the `value` of each run", _are_runs),
    CLAMPED: Rule("a number of epochs for each name", _are_counts),
    VALIDATION: Rule("a number", is_number),
    TEST: Rule("a number, or null", _is_number_or_null),
}
