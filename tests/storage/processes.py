"""Functions for other processes that use one database."""

from __future__ import annotations

import itertools
from multiprocessing.queues import Queue

from optuna.trial import TrialState

from schedsearch.storage import BatchedStorage, StudyRecord, create_study, open_database, open_study
from tests.claims import claim


def claim_all(url: str, worker: str, found: Queue[int | None]) -> None:
    """Claim trials until none is left, and put their ids, then None, into a queue."""
    study = open_study(open_database(url), "small")
    while (trial_id := claim(study, worker)) is not None:
        found.put(trial_id)
    found.put(None)


def create(url: str, record: StudyRecord, outcome: Queue[str]) -> None:
    """Create a study, and put `created` or the error into a queue."""
    try:
        create_study(open_database(url, create=True), record)
        outcome.put("created")
    except BaseException as error:
        outcome.put(repr(error))


def search_in_batches(url: str, worker: str, lanes: int, ended: Queue[tuple[str, int]]) -> None:
    """Train trials of three epochs until none is left; put each finished one into a queue."""
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


def report_forever(url: str, lanes: int, committed: Queue[int]) -> None:
    """Claim trials and report for all of them in each batch; put the batch count into a queue."""
    study = open_study(open_database(url), "small")
    storage = BatchedStorage(study.database)
    with storage.batch(study.study_id, "doomed") as first:
        first.claim(lanes)
    for step in itertools.count():
        with storage.batch(study.study_id, "doomed"):
            for trial_id in first.claimed:
                storage.set_trial_intermediate_value(trial_id, step, 0.5)
                storage.set_trial_user_attr(trial_id, "reported", step)
        committed.put(step + 1)
