"""What other processes do to one database; light to import, since each process imports it."""

from __future__ import annotations

import itertools
import multiprocessing
from multiprocessing.context import ForkServerContext
from multiprocessing.queues import Queue

from optuna.trial import TrialState

from schedsearch.storage import (
    BatchedStorage,
    StudyRecord,
    create_study,
    open_database,
    open_study,
)
from tests.claims import claim


def processes() -> ForkServerContext:
    """Make processes by forking a fresh one: forks of the test would share its connections."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def claim_all(url: str, worker: str, found: Queue[int | None]) -> None:
    """Claim trials until none is left, and then say None."""
    study = open_study(open_database(url), "small")
    while (trial_id := claim(study, worker)) is not None:
        found.put(trial_id)
    found.put(None)


def create(url: str, record: StudyRecord, outcome: Queue[str]) -> None:
    """Create a study, and say how that went."""
    try:
        create_study(open_database(url, create=True), record)
        outcome.put("made")
    except BaseException as error:
        outcome.put(repr(error))


def search_in_rounds(url: str, worker: str, lanes: int, ended: Queue[tuple[str, int]]) -> None:
    """Train trials of three epochs until none is left; say which this worker ended."""
    study = open_study(open_database(url), "small")
    storage, live = BatchedStorage(study.database), list[int]()
    epochs: dict[int, int] = {}
    while True:
        storage.refresh(study.study_id)
        with storage.batch(study.study_id, worker) as batch:
            for trial_id in list(live):
                epochs[trial_id] = epochs.get(trial_id, 0) + 1
                storage.set_trial_intermediate_value(trial_id, epochs[trial_id], 0.5)
                if epochs[trial_id] == 3:
                    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
                    live.remove(trial_id)
                    ended.put((worker, trial_id))
            batch.claim(lanes - len(live))
        assert not batch.lost
        live += batch.claimed
        if not live:
            break
    ended.put((worker, -1))


def report_for_ever(url: str, lanes: int, committed: Queue[int]) -> None:
    """Claim trials and report of all of them, round after round; say how many were committed."""
    study = open_study(open_database(url), "small")
    storage = BatchedStorage(study.database)
    with storage.batch(study.study_id, "doomed") as begun:
        begun.claim(lanes)
    for step in itertools.count():
        with storage.batch(study.study_id, "doomed"):
            for trial_id in begun.claimed:
                storage.set_trial_intermediate_value(trial_id, step, 0.5)
                storage.set_trial_user_attr(trial_id, "reported", step)
        committed.put(step + 1)
