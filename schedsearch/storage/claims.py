"""Taking trials: the queued ones first, then new ones until the study's budget is used up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from schedsearch.storage.attributes import SAMPLE_INDEX
from schedsearch.storage.mirror import StudyMirror
from schedsearch.storage.rows import copy_of, local, now, running
from schedsearch.storage.tables import (
    heartbeats,
    studies,
    study_attributes,
    trials,
    user_attributes,
)
from schedsearch.storage.writes import add_attributes, execute_all

_HOLD = select(studies.c.study_id).where(studies.c.study_id == bindparam("study")).with_for_update()
_BUDGET = select(study_attributes.c.key, study_attributes.c.value_json).where(
    study_attributes.c.study_id == bindparam("study"),
    study_attributes.c.key.in_(("trials", "epochs")),
)
_QUEUED = trials.c.trial_id.in_(bindparam("ids", expanding=True))
_START = update(trials).where(_QUEUED).values(state="RUNNING", datetime_start=bindparam("moment"))
_FORGET_BEATS = delete(heartbeats).where(
    heartbeats.c.trial_id.in_(bindparam("ids", expanding=True))
)
_BEAT = insert(heartbeats).values(heartbeat=func.current_timestamp())
_INSERT = insert(trials)
_NEW = (
    select(trials.c.trial_id)
    .where(trials.c.study_id == bindparam("study"), trials.c.trial_id > bindparam("last"))
    .order_by(trials.c.number)
)


@dataclass(frozen=True)
class Budget:
    """What the trials of a study may take in all.

    Attributes:
        trials: how many chains there may be.
        epochs: how many epochs they may report in all; None: as many as they need.
        horizon: the most that one trial may report.
    """

    trials: int
    epochs: int | None = None
    horizon: int = 1

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Budget:
        """Return what is written among a study's attributes."""
        return cls(attributes["trials"], **attributes.get("epochs", {}))

    def room(self, *, ended: int, epochs: int, others: int) -> int:
        """Return how many more trials may begin.

        Those that have not ended may all go on to the horizon, so the epochs are never overstepped.

        Args:
            ended: how many chains have ended.
            epochs: how many epochs these reported.
            others: how many chains are in training or queued.

        >>> Budget(trials=10, epochs=100, horizon=20).room(ended=2, epochs=25, others=1)
        2
        """
        room = self.trials - ended - others
        if self.epochs is not None:
            room = min(room, (self.epochs - epochs) // self.horizon - others)
        return max(0, room)


def lock_study(connection: Connection, study_id: int) -> None:
    """Lock a study: what the transaction reads of it cannot change before it writes."""
    connection.execute(_HOLD, {"study": study_id})


def stored_budget(connection: Connection, study_id: int) -> Budget:
    """Return a study's budget as it stands now: `start` may raise it."""
    rows = connection.execute(_BUDGET, {"study": study_id})
    return Budget.of({key: json.loads(text) for key, text in rows})


def set_total(connection: Connection, study_id: int, trials: int) -> None:
    """Set how many trials a study has in all."""
    of_study = study_attributes.c.study_id == study_id, study_attributes.c.key == "trials"
    connection.execute(
        update(study_attributes).where(*of_study).values(value_json=json.dumps(trials))
    )


def claim(
    connection: Connection, mirror: StudyMirror, worker: str, count: int, budget: Budget
) -> list[FrozenTrial]:
    """Make up to `count` trials this worker's, and return them as they are once committed.

    Args:
        connection: in a transaction that holds the study.
        mirror: has all that is committed, so that nothing needs to be counted in the database; it
            is left as it is.
        worker: the name of who claims.
        count: how many trials are wanted.
        budget: what the study may take in all.
    """
    moment = now()
    queued = mirror.waiting()[:count]
    ended, epochs = mirror.ended, mirror.ended_epochs
    room = budget.room(ended=ended, epochs=epochs, others=mirror.chains - ended)
    wanted = min(count - len(queued), room)
    _start(connection, [trial._trial_id for trial in queued], moment)
    claimed = [copy_of(trial) for trial in queued]
    for trial in claimed:
        trial.state, trial.datetime_start = TrialState.RUNNING, local(moment)
    claimed += _insert(connection, mirror, wanted, moment)
    sample_index = mirror.samples
    attributes: dict[tuple[int, str], str] = {}
    for trial in claimed:
        added: dict[str, Any] = {"worker": worker}
        # One that Optuna's own tools queued has neither; a sampler may complete it.
        if not {"plan", SAMPLE_INDEX} & trial.user_attrs.keys():
            added[SAMPLE_INDEX], sample_index = sample_index, sample_index + 1
        trial.user_attrs |= added
        attributes |= {(trial._trial_id, key): json.dumps(added[key]) for key in added}
    add_attributes(connection, user_attributes, attributes)
    execute_all(connection, _BEAT, [{"trial_id": trial._trial_id} for trial in claimed])
    return claimed


def _start(connection: Connection, trial_ids: list[int], moment: datetime) -> None:
    if trial_ids:
        connection.execute(_START, {"ids": trial_ids, "moment": moment})
        connection.execute(_FORGET_BEATS, {"ids": trial_ids})


def _insert(
    connection: Connection, mirror: StudyMirror, count: int, moment: datetime
) -> list[FrozenTrial]:
    """Insert running trials, which take the next numbers."""
    if count == 0:
        return []
    study_id, numbers = mirror.study_id, range(len(mirror.trials), len(mirror.trials) + count)
    rows = [
        {"study_id": study_id, "number": number, "state": "RUNNING", "datetime_start": moment}
        for number in numbers
    ]
    connection.execute(_INSERT, rows)
    bound = {"study": study_id, "last": mirror.last_id}
    trial_ids = connection.execute(_NEW, bound).scalars()
    return [running(i, number, moment) for i, number in zip(trial_ids, numbers, strict=True)]
