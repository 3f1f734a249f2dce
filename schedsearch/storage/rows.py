"""Between the rows of trials and Optuna's FrozenTrial: read in bulk, JSON parsed once."""

from __future__ import annotations

import copy
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Select, String, Table, bindparam, func, select, type_coerce

from schedsearch.storage.tables import (
    parameters,
    reports,
    system_attributes,
    trials,
    user_attributes,
    values,
)

#: How many trials one statement names: databases limit the variables of a statement.
_CHUNK = 500
_SPECIAL = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}

#: What the row of a trial itself holds.
TRIAL_ROWS: Select[Any] = select(
    trials.c.trial_id,
    trials.c.number,
    type_coerce(trials.c.state, String),
    trials.c.datetime_start,
    trials.c.datetime_complete,
)


@dataclass(frozen=True)
class Part:
    """One table of what trials hold: its rows are (row's id, trial's id, ...).

    Attributes:
        of_trials: reads what the trials `:ids` hold, in the order in which it came.
        since: reads the rows that came after row `:id`.
        last: reads the id of the row that came last.
        put: adds a row to a trial that nobody else has yet.
    """

    of_trials: Select[Any]
    since: Select[Any]
    last: Select[Any]
    put: Callable[[FrozenTrial, Sequence[Any]], None]


def _part(table: Table, put: Callable[[FrozenTrial, Sequence[Any]], None]) -> Part:
    # Optuna's names of kinds are read as they are: an Enum would check each of them.
    columns = [
        type_coerce(column, String) if column.name.endswith("_type") else column
        for column in table.columns
    ]
    row_id = table.columns[0]
    rows = select(*columns).order_by(row_id)
    of_trials = rows.where(table.c.trial_id.in_(bindparam("ids", expanding=True)))
    return Part(of_trials, rows.where(row_id > bindparam("id")), select(func.max(row_id)), put)


def _put_parameter(trial: FrozenTrial, row: Sequence[Any]) -> None:
    name, distribution = sys.intern(row[2]), _distribution(row[4])
    trial.params[name] = distribution.to_external_repr(row[3])
    trial.distributions[name] = distribution


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _put_user_attribute(trial: FrozenTrial, row: Sequence[Any]) -> None:
    trial.user_attrs[sys.intern(row[2])] = json.loads(row[3])


def _put_system_attribute(trial: FrozenTrial, row: Sequence[Any]) -> None:
    trial.system_attrs[sys.intern(row[2])] = json.loads(row[3])


def _put_report(trial: FrozenTrial, row: Sequence[Any]) -> None:
    trial.intermediate_values[row[2]] = row[3] if row[4] == "FINITE" else _SPECIAL[row[4]]


def _put_value(trial: FrozenTrial, row: Sequence[Any]) -> None:
    found = trial.values or []
    found += [math.nan] * (row[2] + 1 - len(found))
    found[row[2]] = row[3] if row[4] == "FINITE" else _SPECIAL[row[4]]
    trial.values = found


#: What a trial may gain while it runs.
PARTS = (
    _part(parameters, _put_parameter),
    _part(user_attributes, _put_user_attribute),
    _part(system_attributes, _put_system_attribute),
    _part(reports, _put_report),
)
#: What it has when it ended.
_VALUES = _part(values, _put_value)


def read_whole(connection: Connection, rows: Iterable[Sequence[Any]]) -> Iterator[FrozenTrial]:
    """Yield the trials of some TRIAL_ROWS with all that they hold."""
    for chunk in chunks(rows):
        found = {row[0]: _bare(row) for row in chunk}
        for part in (*PARTS, _VALUES):
            for row in connection.execute(part.of_trials, {"ids": list(found)}):
                part.put(found[row[1]], row)
        yield from found.values()


def chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield as many items at a time as one statement may name."""
    every = list(items)
    for start in range(0, len(every), _CHUNK):
        yield every[start : start + _CHUNK]


def _bare(row: Sequence[Any]) -> FrozenTrial:
    trial_id, number, state, start, complete = row
    return FrozenTrial(
        number=number,
        state=TrialState[state],
        value=None,
        datetime_start=None if start is None else local(start),
        datetime_complete=None if complete is None else local(complete),
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=trial_id,
    )


def running(trial_id: int, number: int, start: datetime) -> FrozenTrial:
    """Return a trial that begins, at a moment in naive UTC."""
    return _bare((trial_id, number, "RUNNING", start, None))


def kind_of(value: float) -> tuple[float | None, str]:
    """Return a float as Optuna stores it: what is not finite by its name.

    >>> kind_of(0.5), kind_of(-math.inf)
    ((0.5, 'FINITE'), (None, 'INF_NEG'))
    """
    if math.isfinite(value):
        return value, "FINITE"
    if math.isnan(value):
        return None, "NAN"
    return None, "INF_POS" if value > 0 else "INF_NEG"


def copy_of(trial: FrozenTrial) -> FrozenTrial:
    """Return a copy that may be changed, but for the values of its attributes."""
    made = copy.copy(trial)
    made.params = dict(trial.params)
    made.distributions = dict(trial.distributions)
    made.user_attrs = dict(trial.user_attrs)
    made.system_attrs = dict(trial.system_attrs)
    made.intermediate_values = dict(trial.intermediate_values)
    return made


def now() -> datetime:
    """Now, as Optuna keeps it in the database: naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def local(moment: datetime) -> datetime:
    """Return a stored moment as a FrozenTrial has it: naive local time."""
    return moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
