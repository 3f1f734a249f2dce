"""The supervisor of a study's workers: starts, watches, replaces and stops them."""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from schedsearch.errors import InputError, SchedSearchError
from schedsearch.launchers.base import Launcher, WorkerExit, WorkerProcess, WorkerSpec
from schedsearch.launchers.outage_lines import OutageLines
from schedsearch.printable import count_of
from schedsearch.storage import GRACE_PERIOD, StudyHandle, is_outage_line

#: Seconds between two searches for stale trials of workers on any machine.
REAPING = 10.0
#: After so many deaths with no trial ended in between, dead workers are no longer replaced. A death
#: of all workers at once, as when a node ends, counts as one.
DEATHS_IN_A_ROW = 3
#: The exit code of a worker that received a stop signal.
STOPPED = 130


def worker_name() -> str:
    """Return a name that no other worker has: the host's, and a random part."""
    return f"{os.uname().nodename}-{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True)
class _Child:
    name: str
    process: WorkerProcess


@dataclass
class Supervisor:
    """Supervises workers of one study, in any place.

    The trials of a worker that is killed are queued again at once, and the worker is replaced.

    Args:
        study: the study.
        number: how many workers.
        launcher: starts them.
        say: prints a line for the user.
        reuse: whether workers read and write the cache of epochs.
        threads: of each worker; None: as many as the study records.
        grace: a trial whose worker gives no heartbeat for as long is stale.
        reaping: seconds between two searches for stale trials.
        relay: prints a line of a worker; if left out, `say` does.

    Attributes:
        exit_code: that of the first worker that failed; 0 if none did.
    """

    study: StudyHandle
    number: int
    launcher: Launcher
    say: Callable[[str], None]
    reuse: bool = True
    threads: int | None = None
    grace: timedelta = GRACE_PERIOD
    reaping: float = REAPING
    relay: Callable[[str], None] | None = None
    exit_code: int = field(default=0, init=False)
    _children: list[_Child] = field(default_factory=list, init=False)
    _stopping: bool = field(default=False, init=False)
    _stopped_elsewhere: bool = field(default=False, init=False)
    _may_wait_longer: bool = field(default=True, init=False)
    _deaths: int = field(default=0, init=False)
    _finished: int = field(default=0, init=False)
    _reaped: float = field(default=-math.inf, init=False)
    _printed: set[str] = field(default_factory=set, init=False)
    _outages: OutageLines = field(default_factory=OutageLines, init=False)
    _lines: threading.Lock = field(default_factory=threading.Lock, init=False)

    def start(self) -> None:
        """Start all workers."""
        self.study.database.retrier.report_to(partial(self._on_line, ""))
        for _ in range(self.number):
            self._start_one()

    def watch(self) -> bool:
        """Check all workers once; return whether any work is left to supervise.

        After its last worker it still waits for the trials of other workers, which may die.
        """
        # First, so that the trials of ended children are not counted as those of other workers.
        for child in list(self._children):
            if (end := child.process.poll()) is not None:
                self._reap(child, end)
        if time.monotonic() - self._reaped > self.reaping:
            self._reaped = time.monotonic()
            if lost := self.study.queue.requeue_lost(self.grace):
                again = "was" if lost == 1 else "were"
                self.say(
                    f"{count_of(lost, 'trial')} of workers that have ended or send no "
                    f"heartbeats {again} queued again"
                )
            self._may_wait_longer = True
        return bool(self._children) or self._has_work_left()

    def stop(self) -> None:
        """Ask all workers to stop after the epoch."""
        self._stopping = True
        for child in self._children:
            child.process.stop()

    def kill(self) -> None:
        """End all workers at once, with their child processes, and queue their trials again."""
        self._stopping = True
        for child in self._children:
            child.process.kill()
        children, self._children = self._children, []
        for child in children:
            self.study.queue.requeue_trials_of(child.name)

    def give_up(self, error: SchedSearchError) -> None:
        """End all workers at once without the database, and print the error once."""
        self._stopping = True
        for child in self._children:
            child.process.kill()
        self._children.clear()
        self._on_line("", f"error: {error}")

    def _start_one(self) -> None:
        name = worker_name()
        flags: tuple[str, ...] = () if self.reuse else ("--no-reuse",)
        if self.threads is not None:
            flags += ("--threads", str(self.threads))
        database = self.study.database
        spec = WorkerSpec(name, self.study.name, flags, database.url, str(database.folder))
        self._children.append(
            _Child(name, self.launcher.launch(spec, partial(self._on_line, name)))
        )

    def _on_line(self, worker: str, line: str) -> None:
        """Print a line; an error, a warning or an outage that all workers share is printed once.

        A thread for each worker calls it, and the main thread.
        """
        with self._lines:
            if not self._outages.is_news(line, worker):
                return
            if line.startswith(("error:", "warning:", "hint:")) and not is_outage_line(line):
                if line in self._printed:
                    return
                self._printed.add(line)
        (self.relay or self.say)(line)

    def _reap(self, child: _Child, end: WorkerExit) -> None:
        """Queue the trials of an ended worker again, and replace it if it was killed."""
        self._children.remove(child)
        self._reaped = -math.inf  # the search for stale trials says what is left to wait for
        self._outages.forget(child.name)
        self.study.queue.requeue_trials_of(child.name)
        if end.code == 0 or self._stopping:
            return
        if end.killed_by is not None:
            self._replace(end.killed_by)
        elif end.code == STOPPED:
            self._stopped_elsewhere = True
            self.say("warning: a worker received a stop signal: it is not replaced")
        else:
            # The worker has printed the reason, and another worker would fail for the same one.
            self.exit_code = self.exit_code or end.code
        if end.code == InputError.exit_code:
            self.stop()  # input that is wrong for one worker is wrong for all

    def _replace(self, killed_by: str) -> None:
        # Without a number: another worker of this host may have queued them before.
        self.say(f"warning: a worker was killed ({killed_by}): its trials are queued again")
        finished = self.study.queue.counts().finished
        self._deaths = 1 if finished > self._finished else self._deaths + 1
        self._finished = finished
        if self._deaths < DEATHS_IN_A_ROW + self.number - 1:
            self._start_one()
        else:
            self.exit_code = self.exit_code or 1
            self.say(f"error: {self._deaths} workers were killed in a row: no more are started")

    def _has_work_left(self) -> bool:
        """Return, after the last worker has ended, whether trials are left to begin or wait for."""
        if self._stopping or self._stopped_elsewhere or self.exit_code:
            return False
        counts = self.study.queue.counts()
        if counts.waiting:
            self._start_one()
        elif counts.running and self._may_wait_longer:
            self._may_wait_longer = False
            self._say_waiting()
        return counts.waiting + counts.running > 0

    def _say_waiting(self) -> None:
        """Print what this waits for, unless that was printed before."""
        seconds = self.grace.total_seconds() + self.reaping
        if message := self.study.queue.liveness.waiting_message(seconds):
            self.say(message)
