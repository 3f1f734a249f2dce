"""A buffer for the writes of a batch: visible in the cache at once, in the database at the end."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import (
    Connection,
    Executable,
    Select,
    Table,
    bindparam,
    delete,
    exists,
    insert,
    select,
    update,
)

from schedsearch.storage.attributes import SUPERSEDED_BY, WORKER
from schedsearch.storage.clock import Clock
from schedsearch.storage.rows import copy_trial, encode_float, split_ids, to_local_time
from schedsearch.storage.tables import (
    parameters,
    reports,
    system_attributes,
    trials,
    user_attributes,
    values,
)
from schedsearch.storage.trial_cache import TrialCache

# Statements are built once: building one costs as much as executing it.
_OF_WORKER = (
    select(trials.c.trial_id, Clock().label("clock"))
    .join_from(trials, user_attributes, user_attributes.c.trial_id == trials.c.trial_id)
    .where(
        trials.c.trial_id.in_(bindparam("ids", expanding=True)),
        user_attributes.c.key == WORKER,
        user_attributes.c.value_json == bindparam("worker"),
    )
    .order_by(trials.c.trial_id)
    # No other worker takes these trials over before the end of the transaction.
    .with_for_update(of=trials, key_share=True)
)
_RUNNING = _OF_WORKER.where(trials.c.state == "RUNNING")
_superseded = user_attributes.alias()
_FINISHED = _OF_WORKER.where(
    trials.c.state.in_(("COMPLETE", "PRUNED", "FAIL")),
    ~exists().where(
        _superseded.c.trial_id == trials.c.trial_id, _superseded.c.key == SUPERSEDED_BY
    ),
)
# Inline: they return no ids, so that their answers need not be waited for.
_ADD_PARAMETERS, _ADD_REPORTS, _ADD_VALUES = (
    insert(table).inline() for table in (parameters, reports, values)
)
_ADD_ATTRIBUTES = {table: insert(table).inline() for table in (user_attributes, system_attributes)}
_DELETE = {
    table: delete(table).where(table.c.trial_id == bindparam("trial"), key == bindparam("part"))
    for table, key in (
        (reports, reports.c.step),
        (parameters, parameters.c.param_name),
        (values, values.c.objective),
        (user_attributes, user_attributes.c.key),
        (system_attributes, system_attributes.c.key),
    )
}
_FINISH = (
    update(trials)
    .where(trials.c.trial_id == bindparam("trial"))
    .values(state=bindparam("final_state"), datetime_complete=bindparam("moment"))
)


class WriteBuffer:
    """Buffers the writes to the trials of one study.

    The last write to a report or an attribute wins; for a parameter the first one does, as in
    Optuna's database.

    Args:
        cache: the trials of the study; it shows the buffered writes.
    """

    def __init__(self, cache: TrialCache) -> None:
        self._cache = cache
        self._originals: dict[int, FrozenTrial] = {}
        self._parameters: dict[tuple[int, str], tuple[float, str]] = {}
        self._user_attributes: dict[tuple[int, str], str] = {}
        self._system_attributes: dict[tuple[int, str], str] = {}
        self._reports: dict[tuple[int, int], float] = {}
        self._finished: dict[int, tuple[TrialState, Sequence[float], datetime]] = {}

    @property
    def trial_ids(self) -> Collection[int]:
        """The ids of the trials with buffered writes."""
        return self._originals.keys()

    def set_parameter(
        self, trial_id: int, name: str, value: float, distribution: BaseDistribution
    ) -> None:
        trial = self._editable_copy(trial_id)
        known = self._cache.distribution(name)
        if known is not None:
            check_distribution_compatibility(known, distribution)
        if name in trial.params:
            return
        self._parameters[trial_id, name] = value, distribution_to_json(distribution)
        trial.params[name] = distribution.to_external_repr(value)
        trial.distributions[name] = distribution
        self._replace(trial)

    def set_user_attribute(self, trial_id: int, key: str, value: Any) -> None:
        trial = self._editable_copy(trial_id)
        self._user_attributes[trial_id, key] = text = json.dumps(value)
        trial.user_attrs[key] = json.loads(text)
        self._replace(trial)

    def set_system_attribute(self, trial_id: int, key: str, value: Any) -> None:
        trial = self._editable_copy(trial_id)
        self._system_attributes[trial_id, key] = text = json.dumps(value)
        trial.system_attrs[key] = json.loads(text)
        self._replace(trial)

    def report(self, trial_id: int, step: int, value: float) -> None:
        trial = self._editable_copy(trial_id)
        self._reports[trial_id, step] = value
        trial.intermediate_values[step] = value
        self._replace(trial)

    def finish(self, trial_id: int, state: TrialState, outcome: Sequence[float] | None) -> bool:
        """Finish a trial; return whether its state changed, as BaseStorage does.

        Raises:
            RuntimeError: the state is not a final one.
        """
        trial = self._editable_copy(trial_id)
        if state is TrialState.RUNNING and trial.state is TrialState.RUNNING:
            return False
        if not state.is_finished():
            raise RuntimeError(
                f"a batch cannot set the state {state.name}: it can only finish trials; "
                "use Batch.claim to start some"
            )
        moment = self._cache.moment_in(trial_id)
        self._finished[trial_id] = state, list(outcome or ()), moment
        trial.state, trial.datetime_complete = state, to_local_time(moment)
        if outcome is not None:
            trial.values = list(outcome)
        self._replace(trial)
        return True

    def _editable_copy(self, trial_id: int) -> FrozenTrial:
        trial = self._cache[trial_id]
        if trial.state.is_finished():
            raise UpdateFinishedTrialError(
                f"Trial#{trial.number} has already finished and can not be updated."
            )
        return copy_trial(trial)

    def _replace(self, trial: FrozenTrial) -> None:
        trial_id = trial._trial_id
        self._originals.setdefault(trial_id, self._cache[trial_id])
        self._cache.put(trial)

    def discard(self, trial_ids: Iterable[int] | None = None) -> None:
        """Restore the cached trials as they were before the batch: those given, or all."""
        for trial_id in list(self._originals if trial_ids is None else trial_ids):
            self._cache.put(self._originals.pop(trial_id))

    # --- flush -----------------------------------------------------------------------------------

    def lock_owned(
        self, worker: str, connection: Connection, *, is_retry: bool
    ) -> tuple[set[int], float | None]:
        """Return the ids of the trials that are running and belong to the worker, and the time.

        The time is that of the clock of the database; None if there are no such trials. Until the
        end of the transaction their rows are locked, which no other live worker needs.

        In a retry, an earlier attempt may have been committed: then the trials that the worker
        itself finished count as well.
        """
        found = _select(connection, _RUNNING, worker, self._originals)
        if is_retry:
            found |= _select(connection, _FINISHED, worker, self._finished)
        return set(found), next(iter(found.values()), None)

    def flush(self, connection: Connection, owned: Collection[int], *, is_retry: bool) -> None:
        """Write to the trials that still belong to the worker.

        A retry replaces what an earlier attempt may have committed.
        """
        if is_retry:
            self._delete_written(connection, owned)
        self._write_reports(connection, owned)
        rows = [
            {"trial_id": i, "param_name": name, "param_value": value, "distribution_json": text}
            for (i, name), (value, text) in self._parameters.items()
            if i in owned
        ]
        execute_many(connection, _ADD_PARAMETERS, rows)
        for table, attributes in (
            (user_attributes, self._user_attributes),
            (system_attributes, self._system_attributes),
        ):
            owned_ones = {key: text for key, text in attributes.items() if key[0] in owned}
            old = [{"trial": i, "part": key} for i, key in owned_ones if self._had(table, i, key)]
            execute_many(connection, _DELETE[table], old)
            add_attributes(connection, table, owned_ones)
        self._write_finished(connection, owned)

    def _delete_written(self, connection: Connection, owned: Collection[int]) -> None:
        final_values = [
            (i, objective)
            for i, (_, outcome, _) in self._finished.items()
            for objective in range(len(outcome))
        ]
        written: dict[Table, Iterable[tuple[int, Any]]] = {
            reports: self._reports,
            parameters: self._parameters,
            user_attributes: self._user_attributes,
            system_attributes: self._system_attributes,
            values: final_values,
        }
        for table, parts in written.items():
            rows = [{"trial": i, "part": part} for i, part in parts if i in owned]
            execute_many(connection, _DELETE[table], rows)

    def _had(self, table: Table, trial_id: int, key: str) -> bool:
        original = self._originals[trial_id]
        return key in (original.user_attrs if table is user_attributes else original.system_attrs)

    def _write_reports(self, connection: Connection, owned: Collection[int]) -> None:
        written = {place: value for place, value in self._reports.items() if place[0] in owned}
        old = [
            {"trial": i, "part": step}
            for i, step in written
            if step in self._originals[i].intermediate_values
        ]
        execute_many(connection, _DELETE[reports], old)
        rows = [
            {
                "trial_id": i,
                "step": step,
                "intermediate_value": stored,
                "intermediate_value_type": kind,
            }
            for (i, step), value in written.items()
            for stored, kind in [encode_float(value)]
        ]
        execute_many(connection, _ADD_REPORTS, rows)

    def _write_finished(self, connection: Connection, owned: Collection[int]) -> None:
        finished = {i: end for i, end in self._finished.items() if i in owned}
        rows = [
            {"trial": i, "final_state": state.name, "moment": moment}
            for i, (state, _, moment) in finished.items()
        ]
        execute_many(connection, _FINISH, rows)
        outcomes = [
            {"trial_id": i, "objective": objective, "value": stored, "value_type": kind}
            for i, (_, outcome, _) in finished.items()
            for objective, value in enumerate(outcome)
            for stored, kind in [encode_float(value)]
        ]
        execute_many(connection, _ADD_VALUES, outcomes)


def _select(
    connection: Connection, statement: Select[Any], worker: str, trial_ids: Iterable[int]
) -> dict[int, float]:
    found: dict[int, float] = {}
    for ids in split_ids(trial_ids):
        rows = connection.execute(statement, {"ids": ids, "worker": json.dumps(worker)})
        found |= {trial_id: float(clock) for trial_id, clock in rows}
    return found


def execute_many(
    connection: Connection, statement: Executable, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Execute a statement for all rows at once, if there are any."""
    if rows:
        connection.execute(statement, rows)


def add_attributes(
    connection: Connection, table: Table, attributes: Mapping[tuple[int, str], str]
) -> None:
    """Add new attributes, given as JSON texts by trial id and key."""
    rows = [
        {"trial_id": trial_id, "key": key, "value_json": text}
        for (trial_id, key), text in attributes.items()
    ]
    execute_many(connection, _ADD_ATTRIBUTES[table], rows)
