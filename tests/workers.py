"""Workers in separate processes with a short grace period, for tests that kill and suspend them."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import Any

from sqlalchemy import event

from schedsearch.storage import get_only_study, open_database
from schedsearch.worker import Heartbeat
from tests.searches import Ears, make_worker


def run_worker(url: str, name: str, grace: float) -> None:
    """Search the study of a database until nothing is left."""
    study = get_only_study(open_database(url))
    make_worker(
        study,
        name,
        lambda: False,
        Ears(),
        heartbeat=Heartbeat(grace / 10, timedelta(seconds=grace)),
    ).run()


def reap_and_be_killed(url: str) -> None:
    """Queue lost trials again, and die right before the commit."""
    study = get_only_study(open_database(url))

    @event.listens_for(study.database.engine, "commit")
    def die(connection: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    study.queue.requeue_lost(timedelta(0))
