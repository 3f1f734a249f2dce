"""Claiming trials for a worker: queued trials first, then new ones within the budget."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, bindparam, func, insert, select, update

from schedsearch.storage.attributes import PLAN, SAMPLE_INDEX, WORKER
from schedsearch.storage.budget import Budget
from schedsearch.storage.clock import database_now
from schedsearch.storage.rows import (
    copy_trial,
    new_running_trial,
    new_waiting_trial,
    to_local_time,
)
from schedsearch.storage.tables import heartbeats, studies, trials, user_attributes
from schedsearch.storage.trial_cache import TrialCache
from schedsearch.storage.write_buffer import add_attributes, execute_many

_LOCK = select(studies.c.study_id).where(studies.c.study_id == bindparam("study")).with_for_update()
_QUEUED = trials.c.trial_id.in_(bindparam("ids", expanding=True))
_START = update(trials).where(_QUEUED).values(state="RUNNING", datetime_start=bindparam("moment"))
_ADD_HEARTBEATS = insert(heartbeats).values(heartbeat=func.current_timestamp())
_INSERT = insert(trials)
_INSERTED = (
    select(trials.c.trial_id, trials.c.number)
    .where(
        trials.c.study_id == bindparam("study"),
        trials.c.trial_id > bindparam("last"),
        trials.c.number >= bindparam("first"),
    )
    .order_by(trials.c.number)
)


def lock_study(connection: Connection, study_id: int) -> None:
    """Lock a study until the end of the transaction: other writers of the study wait."""
    connection.execute(_LOCK, {"study": study_id})


@dataclass(frozen=True)
class NextTrials:
    """What the rest of a budget is spent on now.

    Attributes:
        queued: the user attributes of trials to queue, in this order.
        sampled: the number of other trials that may begin.
    """

    queued: Sequence[Mapping[str, Any]]
    sampled: int


class BudgetPlanner(Protocol):
    """Decides what the rest of a study's budget is spent on."""

    def next_trials(
        self,
        trials: Sequence[FrozenTrial],
        budget: Budget,
        *,
        remaining: int,
        is_half_spent: bool,
    ) -> NextTrials:
        """Return what may begin now: in all at most `remaining` trials.

        Args:
            trials: all rows of the study by number; the study is locked.
            budget: of the study.
            remaining: the number of trials that may still begin, beside the queued ones.
            is_half_spent: whether half of the budget is spent.
        """


@dataclass(frozen=True)
class ClaimedTrials:
    """Trials as they are after a commit: those of the worker, and those that stay in the queue."""

    claimed: Sequence[FrozenTrial]
    queued: Sequence[FrozenTrial] = ()


def claim_trials(
    connection: Connection,
    cache: TrialCache,
    worker: str,
    count: int,
    budget: Budget,
    planner: BudgetPlanner | None = None,
) -> ClaimedTrials:
    """Claim up to `count` trials for a worker, and return them as they are after the commit.

    Args:
        connection: in a transaction that has locked the study.
        cache: in sync with the database, so that nothing has to be counted there; it starts to
            measure the durations of the claimed trials, and is not changed otherwise.
        worker: the name of the worker.
        count: the number of trials that the worker wants.
        budget: the current budget of the study.
        planner: decides how much of it may begin now; None: all of it.
    """
    moment = database_now(connection)
    next_trials = _next_trials(cache, budget, planner)
    added = _insert_waiting(connection, cache, next_trials.queued)
    in_cache = cache.waiting()
    waiting = [*in_cache, *added]
    started = waiting[:count]
    _start(connection, [trial._trial_id for trial in started], moment)
    claimed = [copy_trial(trial) for trial in started]
    for trial in claimed:
        trial.state, trial.datetime_start = TrialState.RUNNING, to_local_time(moment)
    new = min(count - len(started), next_trials.sampled)
    claimed += _insert_running(connection, cache, len(added), new, moment)
    sample_index = cache.sampled_trials
    attributes: dict[tuple[int, str], str] = {}
    for trial in claimed:
        own: dict[str, Any] = {WORKER: worker}
        # A trial that Optuna's tools queued has neither; the sampler adds the missing parameters.
        if not {PLAN, SAMPLE_INDEX} & trial.user_attrs.keys():
            own[SAMPLE_INDEX], sample_index = sample_index, sample_index + 1
        trial.user_attrs |= own
        attributes |= {(trial._trial_id, key): json.dumps(own[key]) for key in own}
    add_attributes(connection, user_attributes, attributes)
    cache.start_clocks([trial._trial_id for trial in claimed], moment)
    execute_many(connection, _ADD_HEARTBEATS, [{"trial_id": trial._trial_id} for trial in claimed])
    return ClaimedTrials(claimed, waiting[max(len(in_cache), len(started)) :])


def _next_trials(cache: TrialCache, budget: Budget, planner: BudgetPlanner | None) -> NextTrials:
    finished, epochs = cache.finished_trials, cache.finished_epochs
    remaining = budget.remaining_trials(
        finished=finished, epochs=epochs, unfinished=cache.trial_count - finished
    )
    if planner is None or remaining == 0:
        return NextTrials((), remaining)
    is_half_spent = budget.is_half_spent(finished=finished, epochs=epochs)
    return planner.next_trials(
        cache.trials, budget, remaining=remaining, is_half_spent=is_half_spent
    )


def _start(connection: Connection, trial_ids: list[int], moment: datetime) -> None:
    if trial_ids:
        connection.execute(_START, {"ids": trial_ids, "moment": moment})


def _insert_running(
    connection: Connection, cache: TrialCache, before: int, count: int, moment: datetime
) -> list[FrozenTrial]:
    """Insert running trials; `before` trials that the cache lacks have the numbers before them."""
    first = len(cache.trials) + before
    rows = [
        {"number": number, "state": "RUNNING", "datetime_start": moment}
        for number in range(first, first + count)
    ]
    inserted = _insert(connection, cache, rows)
    return [new_running_trial(trial_id, number, moment) for trial_id, number in inserted]


def _insert_waiting(
    connection: Connection, cache: TrialCache, every: Sequence[Mapping[str, Any]]
) -> list[FrozenTrial]:
    """Insert trials with these user attributes into the queue."""
    first = len(cache.trials)
    rows = [{"number": first + place, "state": "WAITING"} for place in range(len(every))]
    inserted = [
        new_waiting_trial(trial_id, number, attributes)
        for (trial_id, number), attributes in zip(
            _insert(connection, cache, rows), every, strict=True
        )
    ]
    texts = {
        (trial._trial_id, key): json.dumps(value)
        for trial in inserted
        for key, value in trial.user_attrs.items()
    }
    add_attributes(connection, user_attributes, texts)
    return inserted


def _insert(
    connection: Connection, cache: TrialCache, rows: Sequence[Mapping[str, Any]]
) -> list[tuple[int, int]]:
    """Insert rows of trials, and return their ids with their numbers."""
    if not rows:
        return []
    study_id, first = cache.study_id, rows[0]["number"]
    connection.execute(_INSERT, [{"study_id": study_id, **row} for row in rows])
    bound = {"study": study_id, "last": cache.last_id, "first": first}
    return [(row[0], row[1]) for row in connection.execute(_INSERTED, bound)]
