"""Workers in processes of their own, with a short grace; for tests that kill and suspend them."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import Any

from sqlalchemy import event

from schedsearch.storage import only_study, open_database
from tests.searches import Ears, make_worker


def run_worker(url: str, name: str, grace: float) -> None:
    """Search the study of a database until nothing is left."""
    study = only_study(open_database(url))
    make_worker(
        study,
        name,
        lambda: False,
        Ears(),
        heartbeat=grace / 10,
        grace=timedelta(seconds=grace),
    ).run()


def reap_and_be_killed(url: str) -> None:
    """Queue lost trials anew, and die right before it is committed."""
    study = only_study(open_database(url))

    @event.listens_for(study.database.engine, "commit")
    def die(connection: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    study.queue.hand_back_stale(timedelta(0))
