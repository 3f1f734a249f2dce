"""Loading FrozenTrials from the rows of Optuna's tables: many at a time, each JSON parsed once."""

from __future__ import annotations

import copy
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Select, String, Table, bindparam, func, select, type_coerce

from schedsearch.errors import StorageError
from schedsearch.storage.tables import (
    parameters,
    reports,
    system_attributes,
    trials,
    user_attributes,
    values,
)

#: The number of ids in one statement: databases limit the variables of a statement.
_IDS_PER_STATEMENT = 500
#: More than a study can have. The memory of samplers and pruners grows with the largest number.
_MAX_TRIALS = 2**20
_NON_FINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}

#: The columns of `trials` that a FrozenTrial is made from.
TRIAL_ROWS: Select[Any] = select(
    trials.c.trial_id,
    trials.c.number,
    type_coerce(trials.c.state, String),
    trials.c.datetime_start,
    trials.c.datetime_complete,
)


@dataclass(frozen=True)
class TrialTable:
    """A table with parts of trials; its columns are (row id, trial id, ...).

    Attributes:
        rows_of_trials: selects the rows of the trials `:ids`, in the order of their insertion.
        rows_after: selects the rows that were inserted after row `:id`.
        last_row: selects the id of the last row.
        add_row: adds a row to a trial, in place.
    """

    rows_of_trials: Select[Any]
    rows_after: Select[Any]
    last_row: Select[Any]
    add_row: Callable[[FrozenTrial, Sequence[Any]], None]


def _trial_table(table: Table, add_row: Callable[[FrozenTrial, Sequence[Any]], None]) -> TrialTable:
    # Enum columns are read as text, since SQLAlchemy would check each value.
    columns = [
        type_coerce(column, String) if column.name.endswith("_type") else column
        for column in table.columns
    ]
    row_id = table.columns[0]
    rows = select(*columns).order_by(row_id)
    return TrialTable(
        rows_of_trials=rows.where(table.c.trial_id.in_(bindparam("ids", expanding=True))),
        rows_after=rows.where(row_id > bindparam("id")),
        last_row=select(func.max(row_id)),
        add_row=add_row,
    )


def _add_parameter(trial: FrozenTrial, row: Sequence[Any]) -> None:
    name, distribution = sys.intern(row[2]), _distribution(row[4])
    trial.params[name] = distribution.to_external_repr(row[3])
    trial.distributions[name] = distribution


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _add_user_attribute(trial: FrozenTrial, row: Sequence[Any]) -> None:
    trial.user_attrs[sys.intern(row[2])] = json.loads(row[3])


def _add_system_attribute(trial: FrozenTrial, row: Sequence[Any]) -> None:
    trial.system_attrs[sys.intern(row[2])] = json.loads(row[3])


def _add_report(trial: FrozenTrial, row: Sequence[Any]) -> None:
    trial.intermediate_values[row[2]] = row[3] if row[4] == "FINITE" else _NON_FINITE[row[4]]


def _add_value(trial: FrozenTrial, row: Sequence[Any]) -> None:
    _check_index(f"the objective of trial {trial.number}", row[2])
    found = trial.values or []
    found += [math.nan] * (row[2] + 1 - len(found))
    found[row[2]] = row[3] if row[4] == "FINITE" else _NON_FINITE[row[4]]
    trial.values = found


#: The tables whose rows a running trial may gain.
GROWING_TABLES = (
    _trial_table(parameters, _add_parameter),
    _trial_table(user_attributes, _add_user_attribute),
    _trial_table(system_attributes, _add_system_attribute),
    _trial_table(reports, _add_report),
)
#: The table whose rows a trial gains when it finishes.
_VALUES = _trial_table(values, _add_value)


def load_trials(connection: Connection, rows: Iterable[Sequence[Any]]) -> Iterator[FrozenTrial]:
    """Yield the trials of these TRIAL_ROWS with all their parts."""
    for some in split_ids(rows):
        found = {row[0]: _trial_without_parts(row) for row in some}
        for table in (*GROWING_TABLES, _VALUES):
            for row in connection.execute(table.rows_of_trials, {"ids": list(found)}):
                table.add_row(found[row[1]], row)
        yield from found.values()


def split_ids(items: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield the items in lists that are short enough for the variables of one statement."""
    every = list(items)
    for start in range(0, len(every), _IDS_PER_STATEMENT):
        yield every[start : start + _IDS_PER_STATEMENT]


def _trial_without_parts(row: Sequence[Any]) -> FrozenTrial:
    trial_id, number, state, start, complete = row
    _check_index("the number of a trial", number)
    return FrozenTrial(
        number=number,
        state=TrialState[state],
        value=None,
        datetime_start=None if start is None else to_local_time(start),
        datetime_complete=None if complete is None else to_local_time(complete),
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=trial_id,
    )


def _check_index(what: str, value: object) -> None:
    if not (isinstance(value, int) and 0 <= value < _MAX_TRIALS):
        raise StorageError(f"the database is damaged: {what} is {value!r}: use a copy of it")


def new_running_trial(trial_id: int, number: int, start: datetime) -> FrozenTrial:
    """Return a trial that starts at a moment in naive UTC."""
    return _trial_without_parts((trial_id, number, "RUNNING", start, None))


def new_waiting_trial(trial_id: int, number: int, attributes: Mapping[str, Any]) -> FrozenTrial:
    """Return a queued trial with user attributes."""
    trial = _trial_without_parts((trial_id, number, "WAITING", None, None))
    trial.user_attrs = dict(attributes)
    return trial


def encode_float(value: float) -> tuple[float | None, str]:
    """Return a float as Optuna stores it: a finite value, and the kind of the value.

    >>> encode_float(0.5), encode_float(-math.inf)
    ((0.5, 'FINITE'), (None, 'INF_NEG'))
    """
    if math.isfinite(value):
        return value, "FINITE"
    if math.isnan(value):
        return None, "NAN"
    return None, "INF_POS" if value > 0 else "INF_NEG"


def copy_trial(trial: FrozenTrial) -> FrozenTrial:
    """Return a copy with its own tables; the values in the tables are shared."""
    copied = copy.copy(trial)
    copied.params = dict(trial.params)
    copied.distributions = dict(trial.distributions)
    copied.user_attrs = dict(trial.user_attrs)
    copied.system_attrs = dict(trial.system_attrs)
    copied.intermediate_values = dict(trial.intermediate_values)
    return copied


def utc_now() -> datetime:
    """Return the current time as Optuna stores it: naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def to_local_time(moment: datetime) -> datetime:
    """Return a stored time as a FrozenTrial has it: naive local time."""
    return moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
