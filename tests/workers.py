"""Workers in separate processes with a short grace period, for tests that kill and suspend them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.process import BaseProcess
from typing import Any

from sqlalchemy import event

from schedsearch.storage import get_only_study, open_database
from schedsearch.worker import Heartbeat
from tests.searches import Ears, make_worker


def process(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """Begin a process that is forked from one which has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    made = context.Process(target=target, args=arguments)
    made.start()
    return made


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
