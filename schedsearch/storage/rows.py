"""Loading FrozenTrials from the rows of Optuna's tables: many at a time, each JSON parsed once."""

from __future__ import annotations

import gc
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import (
    Column,
    CompoundSelect,
    Connection,
    Select,
    String,
    Table,
    bindparam,
    func,
    select,
    type_coerce,
    union_all,
)

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


def trial_rows(study_id: int) -> Select[Any]:
    """Return a query for the TRIAL_ROWS of a study, by number."""
    return TRIAL_ROWS.where(trials.c.study_id == study_id).order_by(trials.c.number)


@dataclass(frozen=True)
class TrialTable:
    """A table with parts of trials; its columns are (row id, trial id, ...).

    Attributes:
        table: the table.
        add_row: adds a row to a trial, in place.
    """

    table: Table
    add_row: Callable[[FrozenTrial, Sequence[Any]], None]

    @property
    def row_id(self) -> Column[Any]:
        """The column that numbers the rows in the order of their insertion."""
        return self.table.columns[0]

    def select_rows(self) -> Select[Any]:
        """Return a query for the rows of the trials `:ids`."""
        # Enum columns are read as text, since SQLAlchemy would check each value.
        columns = [
            type_coerce(column, String) if column.name.endswith("_type") else column
            for column in self.table.columns
        ]
        return select(*columns).where(self.table.c.trial_id.in_(bindparam("ids", expanding=True)))


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
    TrialTable(parameters, _add_parameter),
    TrialTable(user_attributes, _add_user_attribute),
    TrialTable(system_attributes, _add_system_attribute),
    TrialTable(reports, _add_report),
)
#: The table whose rows a trial gains when it finishes.
_VALUES = TrialTable(values, _add_value)


@dataclass(frozen=True)
class Observed:
    """The parts of trials that a reader uses; it loads no others.

    Attributes:
        epochs: the epochs whose reports it uses, beside the last report of a finished trial; None:
            it uses all reports.
        unused: the keys of user attributes that it does not use.
        skipped: the tables that it does not read.
    """

    epochs: frozenset[int] | None = None
    unused: frozenset[str] = frozenset()
    skipped: frozenset[Table] = frozenset()

    def keep(self, trial: FrozenTrial) -> FrozenTrial:
        """Return a trial without the parts that are not used."""
        if self == EVERYTHING:
            return trial
        kept = copy_trial(trial)
        for key in self.unused & kept.user_attrs.keys():
            del kept.user_attrs[key]
        if self.epochs is not None and kept.intermediate_values:
            used = {*self.epochs, max(kept.intermediate_values)}
            reported = trial.intermediate_values
            kept.intermediate_values = {step: reported[step] for step in reported if step in used}
        return kept


EVERYTHING = Observed()


def load_trials(
    connection: Connection,
    rows: Iterable[Sequence[Any]],
    observed: Observed = EVERYTHING,
    last_rows: Mapping[TrialTable, dict[int, int]] | None = None,
) -> Iterator[FrozenTrial]:
    """Yield the trials of these TRIAL_ROWS with their parts.

    Args:
        connection: in a transaction.
        rows: of the trials.
        observed: the parts to load.
        last_rows: gets, by table and id of an unfinished trial, the largest id of the loaded rows.
    """
    for some in split_ids(rows):
        found = {row[0]: _trial_without_parts(row) for row in some}
        growing = {i for i, trial in found.items() if not trial.state.is_finished()}
        for table in (*GROWING_TABLES, _VALUES):
            if table.table in observed.skipped:
                continue
            add_row = table.add_row
            last = {} if last_rows is None else last_rows.get(table, {})
            for row in connection.execute(_all_rows(table, observed), {"ids": list(found)}):
                trial_id = row[1]
                add_row(found[trial_id], row)
                if trial_id in growing:
                    last[trial_id] = max(row[0], last.get(trial_id, 0))
        yield from found.values()


# Statements are built once: building one costs as much as executing it.
@lru_cache(maxsize=64)
def _all_rows(table: TrialTable, observed: Observed) -> Select[Any] | CompoundSelect[Any]:
    """Return a query for the rows of the trials `:ids` that are used."""
    rows = table.select_rows()
    if table.table is user_attributes and observed.unused:
        return rows.where(user_attributes.c.key.not_in(observed.unused))
    if table.table is not reports or observed.epochs is None:
        return rows.order_by(table.row_id)
    ids = reports.c.trial_id.in_(bindparam("ids", expanding=True))
    last = select(reports.c.trial_id, func.max(reports.c.step).label("step")).where(ids)
    ends = last.group_by(reports.c.trial_id).subquery()
    of_ends = (reports.c.trial_id == ends.c.trial_id) & (reports.c.step == ends.c.step)
    at_end = rows.join(ends, of_ends)
    return union_all(rows.where(reports.c.step.in_(observed.epochs)), at_end)


@lru_cache(maxsize=64)
def rows_after(table: TrialTable, observed: Observed) -> Select[Any]:
    """Return a query for the used rows of the trials `:ids` with an id above `:after`."""
    rows = table.select_rows().where(table.row_id > bindparam("after")).order_by(table.row_id)
    if table.table is user_attributes and observed.unused:
        return rows.where(user_attributes.c.key.not_in(observed.unused))
    if table.table is reports and observed.epochs is not None:
        return rows.where(reports.c.step.in_(observed.epochs))
    return rows


@contextmanager
def paused_garbage_collection() -> Iterator[None]:
    """Collect no cycles while many trials are loaded: each collection would traverse them all."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


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
    # copy.copy would ask for the pickled form first.
    copied = FrozenTrial.__new__(FrozenTrial)
    copied.__dict__.update(trial.__dict__)
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
