"""What other processes do to one database; light to import, since each process imports it."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext
from multiprocessing.queues import Queue

from schedsearch.storage import StudyRecord, create_study, open_database, open_study


def processes() -> ForkServerContext:
    """Make processes by forking a fresh one: forks of the test would share its connections."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def claim_all(url: str, worker: str, total: int, found: Queue[int | None]) -> None:
    """Claim trials until none is left, and then say None."""
    study = open_study(open_database(url), "small")
    while (trial_id := study.queue.claim(worker, total)) is not None:
        found.put(trial_id)
    found.put(None)


def create(url: str, record: StudyRecord, outcome: Queue[str]) -> None:
    """Create a study, and say how that went."""
    try:
        create_study(open_database(url, create=True), record)
        outcome.put("made")
    except BaseException as error:
        outcome.put(repr(error))
