"""The options of a worker, beside its study."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from schedsearch.storage import GRACE_PERIOD

#: Seconds between two heartbeats.
HEARTBEAT = 10.0


def end_process() -> None:
    """End this process at once, as a failure."""
    os._exit(1)


@dataclass(frozen=True)
class ProcessControl:
    """Callbacks that stop or restart a worker.

    Attributes:
        should_stop: asked after each round; the live trials then return to the queue.
        restart: called in another thread when an epoch takes longer than the study allows. It ends
            the process, and may start the same worker in a new one.
    """

    should_stop: Callable[[], bool]
    restart: Callable[[], None] = end_process


@dataclass(frozen=True)
class Messages:
    """Callbacks for warnings and for other lines for the user."""

    warn: Callable[[str], None]
    info: Callable[[str], None]


@dataclass(frozen=True)
class Heartbeat:
    """How often a worker says that it is alive, and when another one is stale.

    Attributes:
        interval: seconds between two heartbeats.
        grace: a trial whose worker gives no heartbeat for as long is queued again.
    """

    interval: float = HEARTBEAT
    grace: timedelta = GRACE_PERIOD
