"""Signs of life of a worker, and the search for those who give none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from schedsearch.errors import DatabaseUnavailableError
from schedsearch.storage import TrialQueue

#: Seconds between two signs of life.
HEARTBEAT = 10.0


@contextmanager
def heartbeats(
    queue: TrialQueue,
    trials: Callable[[], Sequence[int]],
    also: Callable[[], None],
    seconds: float,
    grace: timedelta,
) -> Iterator[None]:
    """Beat for the trials that `trials` names, and call `also`, however long an epoch takes.

    Each beat, after so many `seconds`, also queues anew the trials of workers that are silent for
    longer than `grace`.
    """
    over = threading.Event()

    def beat() -> None:
        while not over.wait(seconds):
            # A database that is away for longer than it is waited for may be back at the next beat.
            with suppress(SQLAlchemyError, StorageInternalError, DatabaseUnavailableError):
                queue.beat(list(trials()))
                also()
                queue.hand_back_stale(grace)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
