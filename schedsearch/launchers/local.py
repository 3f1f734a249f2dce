"""Worker processes on this machine: started, watched, replaced when they die, and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO

from schedsearch.errors import InputError
from schedsearch.storage import GRACE, StudyHandle
from schedsearch.task import TRUST

#: Seconds between two looks for workers, on any machine, that are silent for too long.
REAPING = 10.0
#: Workers that die one after another, with no trial ended in between, are no longer replaced.
DEATHS_IN_A_ROW = 3
#: The exit code of a worker that was told to stop.
STOPPED = 130
#: Seconds that a dead worker's last words may take.
_LAST_WORDS = 5.0


@dataclass
class _Child:
    name: str
    process: subprocess.Popen[str]
    reader: threading.Thread


@dataclass
class LocalWorkers:
    """Worker processes of one study.

    A worker that is killed has its trials queued anew at once, and is replaced.

    Args:
        study: whose trials.
        number: how many workers.
        say: tells the person one line.
        reuse: whether they follow what is known, and keep what they train.
        grace: a worker on any machine that is silent for longer is taken for dead.
        reaping: seconds between two looks for such workers.

    Attributes:
        exit_code: that of the first worker that failed; 0 if none did.
    """

    study: StudyHandle
    number: int
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
            if child.process.poll() is not None:
                self._bury(child)
        return bool(self._children) or self._goes_on()

    def stop(self) -> None:
        """Ask all workers to stop after the epoch."""
        self._stopping = True
        for child in self._children:
            child.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End all workers at once, with what they started, and queue their trials anew."""
        self._stopping = True
        for child in self._children:
            with suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()
        for child in list(self._children):
            self._bury(child)

    def _start_one(self) -> None:
        name = f"{os.uname().nodename}-{uuid.uuid4().hex[:12]}"
        command = [sys.executable, "-m", "schedsearch", "worker", self.study.name]
        if not self.reuse:
            command.append("--no-reuse")
        process = subprocess.Popen(
            [*command, "--name", name, "--parent", str(os.getpid()), "--quiet"],
            # By the environment: a command line is for everybody to read, and may hold a password.
            # Whoever starts them has let the task's code run.
            env=os.environ | {"SCHEDSEARCH_STORAGE": self.study.database.url, TRUST: "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # Ctrl-C is for us; we tell them.
            start_new_session=True,
        )
        assert process.stderr is not None
        reader = threading.Thread(target=self._pass_on, args=(process.stderr,), daemon=True)
        reader.start()
        self._children.append(_Child(name, process, reader))

    def _pass_on(self, lines: IO[str]) -> None:
        """Say what a worker says; what all workers find alike is said once."""
        with lines:
            for line in lines:
                alike = line.startswith(("error:", "warning:", "hint:"))
                if not (alike and line in self._told):
                    self.say(line.rstrip("\n"))
                if alike:
                    self._told.add(line)

    def _bury(self, child: _Child) -> None:
        """See to what an ended worker leaves behind, and replace it if it was killed."""
        self._children.remove(child)
        child.reader.join(_LAST_WORDS)
        code = child.process.returncode
        lost = self.study.queue.hand_back_all_of(child.name)
        if code == 0 or self._stopping:
            return
        if code < 0:
            self._replace(_name_of(-code), lost)
        elif code == STOPPED:
            self._dismissed = True
            self.say("a worker was told to stop: it is not replaced")
        else:
            # It has said why, and another one would do alike.
            self.exit_code = self.exit_code or code
        if code == InputError.exit_code:
            self.stop()  # input that is wrong for one is wrong for all

    def _replace(self, killed_by: str, lost: int) -> None:
        self.say(f"a worker was killed ({killed_by}): {lost} trial(s) queued anew")
        finished = self.study.queue.counts().finished
        self._deaths = 1 if finished > self._finished else self._deaths + 1
        self._finished = finished
        if self._deaths < DEATHS_IN_A_ROW:
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


def _name_of(number: int) -> str:
    """Return a signal's name; those of real time have none."""
    known = {one.value: one.name for one in signal.Signals}
    return known.get(number, f"signal {number}")
