"""What a round will write: seen in the mirror at once, in the database all at the end."""

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

from schedsearch.storage.mirror import StudyMirror
from schedsearch.storage.rows import chunks, copy_of, kind_of, local, now
from schedsearch.storage.tables import (
    parameters,
    reports,
    system_attributes,
    trials,
    user_attributes,
    values,
)

# Statements are made once: making one costs as much as executing it.
_WORKERS = (
    select(trials.c.trial_id)
    .join_from(trials, user_attributes, user_attributes.c.trial_id == trials.c.trial_id)
    .where(
        trials.c.trial_id.in_(bindparam("ids", expanding=True)),
        user_attributes.c.key == "worker",
        user_attributes.c.value_json == bindparam("worker"),
    )
)
_OWNED = _WORKERS.where(trials.c.state == "RUNNING")
_superseded = user_attributes.alias()
_ENDED = _WORKERS.where(
    trials.c.state.in_(("COMPLETE", "PRUNED", "FAIL")),
    ~exists().where(
        _superseded.c.trial_id == trials.c.trial_id, _superseded.c.key == "superseded_by"
    ),
)
_ADD_PARAMETERS, _ADD_REPORTS, _ADD_VALUES = insert(parameters), insert(reports), insert(values)
_ADD_ATTRIBUTES = {table: insert(table) for table in (user_attributes, system_attributes)}
_FORGET = {
    table: delete(table).where(table.c.trial_id == bindparam("trial"), place == bindparam("place"))
    for table, place in (
        (reports, reports.c.step),
        (parameters, parameters.c.param_name),
        (values, values.c.objective),
        (user_attributes, user_attributes.c.key),
        (system_attributes, system_attributes.c.key),
    )
}
_END = (
    update(trials)
    .where(trials.c.trial_id == bindparam("trial"))
    .values(state=bindparam("ended"), datetime_complete=bindparam("moment"))
)


class BatchWrites:
    """The writes of one round, in the order of BaseStorage's calls.

    Of two writes to one place the last one holds; of a parameter, as in Optuna's databases, the
    first one.
    """

    def __init__(self, mirror: StudyMirror) -> None:
        self._mirror = mirror
        self._originals: dict[int, FrozenTrial] = {}
        self._parameters: dict[tuple[int, str], tuple[float, str]] = {}
        self._user_attributes: dict[tuple[int, str], str] = {}
        self._system_attributes: dict[tuple[int, str], str] = {}
        self._reports: dict[tuple[int, int], float] = {}
        self._ends: dict[int, tuple[TrialState, Sequence[float], datetime]] = {}

    @property
    def trial_ids(self) -> Collection[int]:
        """The trials that are written to."""
        return self._originals.keys()

    def set_parameter(
        self, trial_id: int, name: str, value: float, distribution: BaseDistribution
    ) -> None:
        trial = self._editable(trial_id)
        known = self._mirror.distribution(name)
        if known is not None:
            check_distribution_compatibility(known, distribution)
        if name in trial.params:
            return
        self._parameters[trial_id, name] = value, distribution_to_json(distribution)
        trial.params[name] = distribution.to_external_repr(value)
        trial.distributions[name] = distribution
        self._edit(trial)

    def set_user_attribute(self, trial_id: int, key: str, value: Any) -> None:
        trial = self._editable(trial_id)
        self._user_attributes[trial_id, key] = text = json.dumps(value)
        trial.user_attrs[key] = json.loads(text)
        self._edit(trial)

    def set_system_attribute(self, trial_id: int, key: str, value: Any) -> None:
        trial = self._editable(trial_id)
        self._system_attributes[trial_id, key] = text = json.dumps(value)
        trial.system_attrs[key] = json.loads(text)
        self._edit(trial)

    def report(self, trial_id: int, step: int, value: float) -> None:
        trial = self._editable(trial_id)
        self._reports[trial_id, step] = value
        trial.intermediate_values[step] = value
        self._edit(trial)

    def end(self, trial_id: int, state: TrialState, outcome: Sequence[float] | None) -> bool:
        """End a trial; tell whether that changed anything, as BaseStorage does."""
        trial = self._editable(trial_id)
        if state is TrialState.RUNNING and trial.state is TrialState.RUNNING:
            return False
        if not state.is_finished():
            raise RuntimeError(
                f"a round only ends trials, but {state.name} was asked for: use ask() to begin some"
            )
        moment = now()
        self._ends[trial_id] = state, list(outcome or ()), moment
        trial.state, trial.datetime_complete = state, local(moment)
        if outcome is not None:
            trial.values = list(outcome)
        self._edit(trial)
        return True

    def _editable(self, trial_id: int) -> FrozenTrial:
        trial = self._mirror[trial_id]
        if trial.state.is_finished():
            raise UpdateFinishedTrialError(
                f"Trial#{trial.number} has already finished and can not be updated."
            )
        return copy_of(trial)

    def _edit(self, trial: FrozenTrial) -> None:
        trial_id = trial._trial_id
        self._originals.setdefault(trial_id, self._mirror[trial_id])
        self._mirror.put(trial)

    def undo(self, trial_ids: Iterable[int] | None = None) -> None:
        """Put trials back as they were before the round: those given, or all."""
        for trial_id in list(self._originals if trial_ids is None else trial_ids):
            self._mirror.put(self._originals.pop(trial_id))

    # --- writing ---------------------------------------------------------------------------------

    def owned_by(self, worker: str, connection: Connection, *, again: bool) -> set[int]:
        """Return the trials written to that the database has as running, and as this worker's.

        If they are written `again`, those that it has as ended by this worker, too.
        """
        found = _select(connection, _OWNED, worker, self._originals)
        return found | _select(connection, _ENDED, worker, self._ends) if again else found

    def write(self, connection: Connection, owned: Collection[int], *, again: bool) -> None:
        """Write what concerns the trials that are still this worker's.

        What is written `again` takes the place of what may have been written.
        """
        if again:
            self._forget(connection, owned)
        self._write_reports(connection, owned)
        rows = [
            {"trial_id": i, "param_name": name, "param_value": value, "distribution_json": text}
            for (i, name), (value, text) in self._parameters.items()
            if i in owned
        ]
        execute_all(connection, _ADD_PARAMETERS, rows)
        for table, attributes in (
            (user_attributes, self._user_attributes),
            (system_attributes, self._system_attributes),
        ):
            kept = {place: text for place, text in attributes.items() if place[0] in owned}
            had = [{"trial": i, "place": key} for i, key in kept if self._had(table, i, key)]
            execute_all(connection, _FORGET[table], had)
            add_attributes(connection, table, kept)
        self._write_ends(connection, owned)

    def _forget(self, connection: Connection, owned: Collection[int]) -> None:
        ends = [
            (i, objective)
            for i, (_, outcome, _) in self._ends.items()
            for objective in range(len(outcome))
        ]
        written: dict[Table, Iterable[tuple[int, Any]]] = {
            reports: self._reports,
            parameters: self._parameters,
            user_attributes: self._user_attributes,
            system_attributes: self._system_attributes,
            values: ends,
        }
        for table, places in written.items():
            rows = [{"trial": i, "place": place} for i, place in places if i in owned]
            execute_all(connection, _FORGET[table], rows)

    def _had(self, table: Table, trial_id: int, key: str) -> bool:
        before = self._originals[trial_id]
        return key in (before.user_attrs if table is user_attributes else before.system_attrs)

    def _write_reports(self, connection: Connection, owned: Collection[int]) -> None:
        written = {place: value for place, value in self._reports.items() if place[0] in owned}
        again = [
            {"trial": i, "place": step}
            for i, step in written
            if step in self._originals[i].intermediate_values
        ]
        execute_all(connection, _FORGET[reports], again)
        rows = [
            {
                "trial_id": i,
                "step": step,
                "intermediate_value": stored,
                "intermediate_value_type": kind,
            }
            for (i, step), value in written.items()
            for stored, kind in [kind_of(value)]
        ]
        execute_all(connection, _ADD_REPORTS, rows)

    def _write_ends(self, connection: Connection, owned: Collection[int]) -> None:
        ended = {i: end for i, end in self._ends.items() if i in owned}
        rows = [
            {"trial": i, "ended": state.name, "moment": moment}
            for i, (state, _, moment) in ended.items()
        ]
        execute_all(connection, _END, rows)
        outcomes = [
            {"trial_id": i, "objective": objective, "value": stored, "value_type": kind}
            for i, (_, outcome, _) in ended.items()
            for objective, value in enumerate(outcome)
            for stored, kind in [kind_of(value)]
        ]
        execute_all(connection, _ADD_VALUES, outcomes)


def _select(
    connection: Connection, statement: Select[tuple[int]], worker: str, trial_ids: Iterable[int]
) -> set[int]:
    found: set[int] = set()
    for chunk in chunks(trial_ids):
        found.update(connection.scalars(statement, {"ids": chunk, "worker": json.dumps(worker)}))
    return found


def execute_all(
    connection: Connection, statement: Executable, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Execute one statement for all rows at once, if there are any."""
    if rows:
        connection.execute(statement, rows)


def add_attributes(
    connection: Connection, table: Table, attributes: Mapping[tuple[int, str], str]
) -> None:
    """Give trials attributes that they do not have yet, as JSON texts."""
    rows = [
        {"trial_id": trial_id, "key": key, "value_json": text}
        for (trial_id, key), text in attributes.items()
    ]
    execute_all(connection, _ADD_ATTRIBUTES[table], rows)
