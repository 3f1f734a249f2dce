"""Claiming trials for a worker: queued trials first, then new ones within the budget."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, bindparam, func, insert, select, update

from schedsearch.storage.attributes import PLAN, SAMPLE_INDEX, WORKER
from schedsearch.storage.budget import Budget
from schedsearch.storage.clock import database_now
from schedsearch.storage.rows import copy_trial, new_running_trial, to_local_time
from schedsearch.storage.tables import heartbeats, studies, trials, user_attributes
from schedsearch.storage.trial_cache import TrialCache
from schedsearch.storage.write_buffer import add_attributes, execute_many

_LOCK = select(studies.c.study_id).where(studies.c.study_id == bindparam("study")).with_for_update()
_QUEUED = trials.c.trial_id.in_(bindparam("ids", expanding=True))
_START = update(trials).where(_QUEUED).values(state="RUNNING", datetime_start=bindparam("moment"))
_ADD_HEARTBEATS = insert(heartbeats).values(heartbeat=func.current_timestamp())
_INSERT = insert(trials)
_INSERTED = (
    select(trials.c.trial_id)
    .where(trials.c.study_id == bindparam("study"), trials.c.trial_id > bindparam("last"))
    .order_by(trials.c.number)
)


def lock_study(connection: Connection, study_id: int) -> None:
    """Lock a study until the end of the transaction: other writers of the study wait."""
    connection.execute(_LOCK, {"study": study_id})


def claim_trials(
    connection: Connection, cache: TrialCache, worker: str, count: int, budget: Budget
) -> list[FrozenTrial]:
    """Claim up to `count` trials for a worker, and return them as they are after the commit.

    Args:
        connection: in a transaction that has locked the study.
        cache: in sync with the database, so that nothing has to be counted there; it starts to
            measure the durations of the claimed trials, and is not changed otherwise.
        worker: the name of the worker.
        count: the number of trials that the worker wants.
        budget: the current budget of the study.
    """
    moment = database_now(connection)
    queued = cache.waiting()[:count]
    remaining = budget.remaining_trials(
        finished=cache.finished_trials,
        epochs=cache.finished_epochs,
        unfinished=cache.trial_count - cache.finished_trials,
    )
    _start(connection, [trial._trial_id for trial in queued], moment)
    claimed = [copy_trial(trial) for trial in queued]
    for trial in claimed:
        trial.state, trial.datetime_start = TrialState.RUNNING, to_local_time(moment)
    claimed += _insert(connection, cache, min(count - len(queued), remaining), moment)
    sample_index = cache.sampled_trials
    attributes: dict[tuple[int, str], str] = {}
    for trial in claimed:
        added: dict[str, Any] = {WORKER: worker}
        # A trial that Optuna's tools queued has neither; the sampler adds the missing parameters.
        if not {PLAN, SAMPLE_INDEX} & trial.user_attrs.keys():
            added[SAMPLE_INDEX], sample_index = sample_index, sample_index + 1
        trial.user_attrs |= added
        attributes |= {(trial._trial_id, key): json.dumps(added[key]) for key in added}
    add_attributes(connection, user_attributes, attributes)
    cache.start_clocks([trial._trial_id for trial in claimed], moment)
    execute_many(connection, _ADD_HEARTBEATS, [{"trial_id": trial._trial_id} for trial in claimed])
    return claimed


def _start(connection: Connection, trial_ids: list[int], moment: datetime) -> None:
    if trial_ids:
        connection.execute(_START, {"ids": trial_ids, "moment": moment})


def _insert(
    connection: Connection, cache: TrialCache, count: int, moment: datetime
) -> list[FrozenTrial]:
    """Insert running trials with the next numbers."""
    if count == 0:
        return []
    study_id, numbers = cache.study_id, range(len(cache.trials), len(cache.trials) + count)
    rows = [
        {"study_id": study_id, "number": number, "state": "RUNNING", "datetime_start": moment}
        for number in numbers
    ]
    connection.execute(_INSERT, rows)
    bound = {"study": study_id, "last": cache.last_id}
    trial_ids = connection.execute(_INSERTED, bound).scalars()
    return [
        new_running_trial(trial_id, number, moment)
        for trial_id, number in zip(trial_ids, numbers, strict=True)
    ]
