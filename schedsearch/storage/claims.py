"""Taking trials: the queued ones first, then new ones until the study has its total."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from schedsearch.storage.mirror import StudyMirror
from schedsearch.storage.rows import copy_of, local, now, running
from schedsearch.storage.tables import heartbeats, study_attributes, trials, user_attributes
from schedsearch.storage.writes import add_attributes, execute_all

_TOTAL = select(study_attributes.c.value_json).where(
    study_attributes.c.study_id == bindparam("study"), study_attributes.c.key == "trials"
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


def stored_total(connection: Connection, study_id: int) -> int:
    """Return how many trials a study has in all, as it stands now: `start` may raise it."""
    return int(json.loads(connection.execute(_TOTAL, {"study": study_id}).scalar_one()))


def claim(
    connection: Connection, mirror: StudyMirror, worker: str, count: int, total: int
) -> list[FrozenTrial]:
    """Make up to `count` trials this worker's, and return them as they are once committed.

    Args:
        connection: in a transaction that holds the study.
        mirror: has all that is committed, so that nothing needs to be counted in the database; it
            is left as it is.
        worker: the name of who claims.
        count: how many trials are wanted.
        total: how many chains the study may have.
    """
    moment = now()
    queued = mirror.waiting()[:count]
    wanted = max(0, min(count - len(queued), total - mirror.chains))
    _start(connection, [trial._trial_id for trial in queued], moment)
    claimed = [copy_of(trial) for trial in queued]
    for trial in claimed:
        trial.state, trial.datetime_start = TrialState.RUNNING, local(moment)
    claimed += _insert(connection, mirror, wanted, moment)
    draw = mirror.draws
    attributes: dict[tuple[int, str], str] = {}
    for trial in claimed:
        added: dict[str, Any] = {"worker": worker}
        # One that Optuna's own tools queued has neither; a sampler may complete it.
        if not {"plan", "draw"} & trial.user_attrs.keys():
            added["draw"], draw = draw, draw + 1
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
