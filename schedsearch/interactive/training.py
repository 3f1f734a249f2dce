"""Training the trials of a study in this process, or by local workers, with a progress bar."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from schedsearch.errors import InputError, SchedSearchError
from schedsearch.launchers.in_process import run_worker
from schedsearch.launchers.local import LocalLauncher
from schedsearch.report.progress import Progress
from schedsearch.signals import STOPPING, StopRequest, stop_signals
from schedsearch.storage import StudyHandle
from schedsearch.supervision import WorkerGroup, supervise
from schedsearch.task import live_task
from schedsearch.worker import BestTrialCallback, Messages, ProcessControl

#: Seconds between two updates of the display.
_REDRAW = 1.0


def train(
    study: StudyHandle,
    display: Progress,
    redraw: Callable[[], None],
    workers: int,
    best_trial_callback: BestTrialCallback | None = None,
) -> bool:
    """Train trials of a study until none is left to begin; return whether that was interrupted.

    Args:
        study: the study.
        display: prints lines for the user.
        redraw: called about once a second.
        workers: how many processes to start; 0: in this process.
        best_trial_callback: called for each new best trial, in this process only.

    Raises:
        InputError: this process cannot stop an epoch that takes longer than the study allows.
        SchedSearchError: a worker failed.
    """
    redraw()
    if workers:
        group = WorkerGroup(LocalLauncher(), workers, timeout=None, reuse=True)
        done = supervise(study, group, display, redraw)
        redraw()
        if done.exit_code and not done.interrupted:
            raise SchedSearchError("a worker failed: see its lines above")
        return done.interrupted
    return _train_here(study, display, redraw, best_trial_callback)


def _train_here(
    study: StudyHandle,
    display: Progress,
    redraw: Callable[[], None],
    best_trial_callback: BestTrialCallback | None,
) -> bool:
    if (seconds := study.epoch_timeout()) is not None:
        raise InputError(
            f"epoch_timeout is {seconds:g}, but in this process an epoch that hangs cannot be "
            "stopped: give workers = 1 or more"
        )
    drawn = time.monotonic()
    with _stop_signals() as request:

        def should_stop() -> bool:
            nonlocal drawn
            if time.monotonic() - drawn > _REDRAW:
                drawn = time.monotonic()
                redraw()
            return bool(request)

        run_worker(
            study,
            name=f"python-{uuid.uuid4().hex}",
            control=ProcessControl(should_stop),
            messages=Messages(display.say, lambda line: None),
            best_trial_callback=best_trial_callback,
        )
    redraw()
    return bool(request)


@contextmanager
def _stop_signals() -> Iterator[StopRequest | tuple[()]]:
    """Stop after the epoch at Ctrl-C; only the main thread of a process receives signals."""
    if threading.current_thread() is threading.main_thread():
        with stop_signals(STOPPING) as request:
            yield request
    else:
        yield ()


def refuse_live_task(task: str, workers: int) -> None:
    """Refuse workers in other processes, which cannot import a task of a notebook.

    Raises:
        InputError: always then; call it before anything is written.
    """
    if workers and live_task(task) is not None:
        raise InputError(
            f"workers is {workers}, but other processes cannot import {task}: write it to a file "
            "and import it from there, or leave out workers"
        )
