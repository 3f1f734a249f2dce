"""The workers of a study: started, watched, replaced when they die, and stopped."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from schedsearch.errors import InputError
from schedsearch.launchers.base import Assignment, Launcher, WorkerExit, WorkerProcess
from schedsearch.storage import GRACE, StudyHandle

#: Seconds between two looks for workers, on any machine, that are silent for too long.
REAPING = 10.0
#: After so many deaths with no trial ended in between, the dead are no longer replaced. What takes
#: all workers along, as the end of a node may, counts as one.
DEATHS_IN_A_ROW = 3
#: The exit code of a worker that was told to stop.
STOPPED = 130


@dataclass(frozen=True)
class _Child:
    name: str
    process: WorkerProcess


@dataclass
class Supervisor:
    """Looks after workers of one study, wherever they run.

    A worker that is killed has its trials queued anew at once, and is replaced.

    Args:
        study: whose trials.
        number: how many workers.
        launcher: starts them.
        say: tells the person one line.
        reuse: whether they follow what is known, and keep what they train.
        grace: a worker on any machine that is silent for longer is taken for dead.
        reaping: seconds between two looks for such workers.

    Attributes:
        exit_code: that of the first worker that failed; 0 if none did.
    """

    study: StudyHandle
    number: int
    launcher: Launcher
    say: Callable[[str], None]
    reuse: bool = True
    grace: timedelta = GRACE
    reaping: float = REAPING
    exit_code: int = field(default=0, init=False)
    _children: list[_Child] = field(default_factory=list, init=False)
    _stopping: bool = field(default=False, init=False)
    _dismissed: bool = field(default=False, init=False)
    _waits: bool = field(default=False, init=False)
    _deaths: int = field(default=0, init=False)
    _finished: int = field(default=0, init=False)
    _reaped: float = field(default=float("-inf"), init=False)
    _told: set[str] = field(default_factory=set, init=False)

    def start(self) -> None:
        """Start all workers."""
        for _ in range(self.number):
            self._start_one()

    def watch(self) -> bool:
        """Look after the workers once; return whether there is anything left to watch.

        Without workers of its own it still waits for the trials of others, who may be dead.
        """
        if time.monotonic() - self._reaped > self.reaping:
            self._reaped = time.monotonic()
            if lost := self.study.queue.hand_back_stale(self.grace):
                self.say(f"{lost} trial(s) of silent workers were queued anew")
        for child in list(self._children):
            if (end := child.process.poll()) is not None:
                self._reap(child, end)
        return bool(self._children) or self._goes_on()

    def stop(self) -> None:
        """Ask all workers to stop after the epoch."""
        self._stopping = True
        for child in self._children:
            child.process.stop()

    def kill(self) -> None:
        """End all workers at once, with what they started, and queue their trials anew."""
        self._stopping = True
        for child in self._children:
            child.process.kill()
        for child in self._children:
            self.study.queue.hand_back_all_of(child.name)
        self._children.clear()

    def _start_one(self) -> None:
        name = f"{os.uname().nodename}-{uuid.uuid4().hex[:12]}"
        arguments = (self.study.name, *(() if self.reuse else ("--no-reuse",)))
        assignment = Assignment(name, arguments, self.study.database.url)
        self._children.append(_Child(name, self.launcher.launch(assignment, self._on_line)))

    def _on_line(self, line: str) -> None:
        """Say what a worker says; what all workers find alike is said once."""
        alike = line.startswith(("error:", "warning:", "hint:"))
        if not (alike and line in self._told):
            self.say(line)
        if alike:
            self._told.add(line)

    def _reap(self, child: _Child, end: WorkerExit) -> None:
        """See to what an ended worker leaves behind, and replace it if it was killed."""
        self._children.remove(child)
        lost = self.study.queue.hand_back_all_of(child.name)
        if end.code == 0 or self._stopping:
            return
        if end.killed_by is not None:
            self._replace(end.killed_by, lost)
        elif end.code == STOPPED:
            self._dismissed = True
            self.say("a worker was told to stop: it is not replaced")
        else:
            # It has said why, and another one would do alike.
            self.exit_code = self.exit_code or end.code
        if end.code == InputError.exit_code:
            self.stop()  # input that is wrong for one is wrong for all

    def _replace(self, killed_by: str, lost: int) -> None:
        self.say(f"a worker was killed ({killed_by}): {lost} trial(s) queued anew")
        finished = self.study.queue.counts().finished
        self._deaths = 1 if finished > self._finished else self._deaths + 1
        self._finished = finished
        if self._deaths < DEATHS_IN_A_ROW + self.number - 1:
            self._start_one()
        else:
            self.exit_code = self.exit_code or 1
            self.say(f"{self._deaths} workers were killed in a row: no more are started")

    def _goes_on(self) -> bool:
        """Tell, after the last worker ended, whether there is anything to begin or to wait for."""
        if self._stopping or self._dismissed or self.exit_code:
            return False
        counts = self.study.queue.counts()
        if counts.waiting:
            self._start_one()
        elif counts.running and not self._waits:
            self._waits = True
            self.say(f"waiting for {counts.running} trial(s) of other workers")
        return counts.waiting + counts.running > 0
