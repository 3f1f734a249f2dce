"""Claiming trials for a worker: queued trials first, then new ones within the budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from optuna.trial import FrozenTrial
from sqlalchemy import Connection, bindparam, exists, func, insert, select, update

from schedsearch.storage.attributes import PLAN, SAMPLE_INDEX, WORKER
from schedsearch.storage.budget import Budget
from schedsearch.storage.ledger import TrialLedger
from schedsearch.storage.rows import TRIAL_ROWS, load_trials, new_running_trial, split_ids
from schedsearch.storage.tables import heartbeats, studies, trials, user_attributes
from schedsearch.storage.write_buffer import add_attributes, execute_many

_LOCK = select(studies.c.study_id).where(studies.c.study_id == bindparam("study")).with_for_update()
_QUEUED = trials.c.trial_id.in_(bindparam("ids", expanding=True))
_START = update(trials).where(_QUEUED).values(state="RUNNING", datetime_start=bindparam("moment"))
_STARTED = TRIAL_ROWS.where(_QUEUED)
_LOCK_RUNNING = (
    select(trials.c.trial_id)
    .where(_QUEUED, trials.c.state == "RUNNING")
    .order_by(trials.c.trial_id)
    .with_for_update(key_share=True)
)
_ADD_HEARTBEATS = insert(heartbeats).values(heartbeat=func.current_timestamp()).inline()
_INSERT = insert(trials).inline()
_INSERTED = (
    select(trials.c.trial_id, trials.c.number)
    .where(trials.c.study_id == bindparam("study"), trials.c.trial_id > bindparam("last"))
    .order_by(trials.c.number)
)


def lock_study(connection: Connection, study_id: int) -> None:
    """Lock a study until the end of the transaction.

    Other transactions that number, claim or requeue its trials wait; those that append to a trial
    do not.
    """
    connection.execute(_LOCK, {"study": study_id})


def lock_running(connection: Connection, trial_ids: Iterable[int]) -> list[int]:
    """Return which of these trials are running, and keep them from ending in the meantime.

    A worker ends its trials without the lock of the study.
    """
    found: list[int] = []
    for ids in split_ids(sorted(trial_ids)):
        found += connection.scalars(_LOCK_RUNNING, {"ids": ids})
    return found


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
        trials: Callable[[], Sequence[FrozenTrial]],
        budget: Budget,
        *,
        remaining: int,
        is_half_spent: bool,
    ) -> NextTrials:
        """Return what may begin now: in all at most `remaining` trials.

        Args:
            trials: reads all rows of the study by number; the study is locked meanwhile.
            budget: of the study.
            remaining: the number of trials that may still begin, beside the queued ones.
            is_half_spent: whether half of the budget is spent.
        """


def claim_trials(
    connection: Connection,
    ledger: TrialLedger,
    worker: str,
    count: int,
    budget: Budget,
    moment: datetime,
    *,
    planner: BudgetPlanner | None,
    trials: Callable[[], Sequence[FrozenTrial]],
) -> list[FrozenTrial]:
    """Claim up to `count` trials for a worker, and return them as they are after the commit.

    Args:
        connection: in a transaction that has locked the study.
        ledger: the counts of the study's trials; it is synced. If the transaction fails, it must
            not be used again.
        worker: the name of the worker.
        count: the number of trials that the worker wants.
        budget: the current budget of the study.
        moment: the current time of the database.
        planner: decides how much of the budget may begin now; None: all of it.
        trials: reads all rows of the study by number, for the planner.
    """
    ledger.sync(connection, count)
    next_trials = _next_trials(connection, ledger, budget, planner, trials)
    if next_trials.queued:
        _insert_waiting(connection, ledger, next_trials.queued)
        ledger.sync(connection, count)
    queued = _start(connection, ledger.take_queued(count), moment)
    new = min(count - len(queued), next_trials.sampled)
    claimed = queued + _insert_running(connection, ledger, new, moment)
    sample_index = ledger.sampled_trials
    attributes: dict[tuple[int, str], str] = {}
    for place, trial in enumerate(claimed):
        added: dict[str, Any] = {WORKER: worker}
        # A trial that Optuna's tools queued has neither; the sampler adds the missing parameters.
        if not {PLAN, SAMPLE_INDEX} & trial.user_attrs.keys():
            added[SAMPLE_INDEX], sample_index = sample_index, sample_index + 1
            ledger.sampled_trials += place < len(queued)  # the next sync counts the new ones
        trial.user_attrs |= added
        attributes |= {(trial._trial_id, key): json.dumps(added[key]) for key in added}
    add_attributes(connection, user_attributes, attributes)
    execute_many(connection, _ADD_HEARTBEATS, [{"trial_id": trial._trial_id} for trial in claimed])
    return claimed


def _next_trials(
    connection: Connection,
    ledger: TrialLedger,
    budget: Budget,
    planner: BudgetPlanner | None,
    trials: Callable[[], Sequence[FrozenTrial]],
) -> NextTrials:
    finished = ledger.finished_trials
    epochs = 0 if budget.epochs is None else ledger.finished_epochs(connection)
    remaining = budget.remaining_trials(
        finished=finished, epochs=epochs, unfinished=ledger.trial_count - finished
    )
    if planner is None or remaining == 0:
        return NextTrials((), remaining)
    is_half_spent = budget.is_half_spent(finished=finished, epochs=epochs)
    return planner.next_trials(trials, budget, remaining=remaining, is_half_spent=is_half_spent)


def _start(connection: Connection, trial_ids: list[int], moment: datetime) -> list[FrozenTrial]:
    """Start queued trials, and return them."""
    if not trial_ids:
        return []
    connection.execute(_START, {"ids": trial_ids, "moment": moment})
    rows = connection.execute(_STARTED, {"ids": trial_ids})
    return sorted(load_trials(connection, rows), key=lambda trial: trial.number)


def _insert_running(
    connection: Connection, ledger: TrialLedger, count: int, moment: datetime
) -> list[FrozenTrial]:
    """Insert running trials with the next numbers."""
    inserted = _insert(connection, ledger, count, state="RUNNING", datetime_start=moment)
    return [new_running_trial(trial_id, number, moment) for trial_id, number in inserted]


def _insert_waiting(
    connection: Connection, ledger: TrialLedger, every: Sequence[Mapping[str, Any]]
) -> None:
    """Insert trials with these user attributes into the queue."""
    inserted = _insert(connection, ledger, len(every), state="WAITING")
    texts = {
        (trial_id, key): json.dumps(value)
        for (trial_id, _), attributes in zip(inserted, every, strict=True)
        for key, value in attributes.items()
    }
    add_attributes(connection, user_attributes, texts)


def _insert(
    connection: Connection, ledger: TrialLedger, count: int, **columns: Any
) -> list[tuple[int, int]]:
    """Insert rows of trials with the next numbers, and return their ids with their numbers."""
    if count <= 0:
        return []
    numbers = range(ledger.rows, ledger.rows + count)
    rows = [{"study_id": ledger.study_id, "number": number, **columns} for number in numbers]
    connection.execute(_INSERT, rows)
    bound = {"study": ledger.study_id, "last": ledger.last_id}
    return [(row[0], row[1]) for row in connection.execute(_INSERTED, bound)]


def claimed_trials(
    connection: Connection, study_id: int, worker: str, *, ended: bool = False
) -> list[FrozenTrial]:
    """Return the running trials of a worker; `ended` adds those that have ended."""
    query = TRIAL_ROWS.where(trials.c.study_id == study_id, belongs_to(worker))
    if not ended:
        query = query.where(trials.c.state == "RUNNING")
    return list(load_trials(connection, connection.execute(query.order_by(trials.c.trial_id))))


def belongs_to(worker: str) -> Any:
    """Return the condition that a trial was claimed by a worker."""
    return exists().where(
        user_attributes.c.trial_id == trials.c.trial_id,
        user_attributes.c.key == WORKER,
        user_attributes.c.value_json == json.dumps(worker),
    )
