"""The heartbeats of a worker, and its search for stale trials."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from schedsearch.errors import DatabaseFileLostError, DatabaseUnavailableError
from schedsearch.storage import TrialQueue
from schedsearch.worker.options import Heartbeat

#: The main thread raises these too, and they end the worker.
_ENDS_WORKER = (DatabaseFileLostError, DatabaseUnavailableError)


@contextmanager
def heartbeats(
    queue: TrialQueue,
    trials: Callable[[], Sequence[int]],
    renew: Callable[[], None],
    heartbeat: Heartbeat,
) -> Iterator[None]:
    """Send heartbeats for some trials from a thread, however long an epoch takes.

    Each heartbeat also queues stale trials of other workers again.

    Args:
        queue: of the study.
        trials: returns the ids of the trials that this worker trains.
        renew: called with each heartbeat.
        heartbeat: how often, and when a trial is stale.
    """
    over = threading.Event()

    def beat() -> None:
        while not over.wait(heartbeat.interval):
            # A database that is unavailable for longer than the retries may answer later.
            with suppress(SQLAlchemyError, StorageInternalError, *_ENDS_WORKER):
                queue.liveness.record(list(trials()))
                renew()
                queue.requeue_lost(heartbeat.grace)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
