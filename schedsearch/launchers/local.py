"""Worker processes on this machine: started, watched, replaced when they die, and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO

from schedsearch.storage import StudyHandle

#: A worker on any machine that is silent for longer is taken for dead.
GRACE = timedelta(seconds=120)
#: Seconds between two looks for such workers.
REAPING = 30.0
#: Workers that die one after another, with no trial ended in between, are no longer replaced.
DEATHS_IN_A_ROW = 3


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
        arguments: for each `schedsearch worker`, beside the study's name and the worker's.
        say: tells the person one line.
    """

    study: StudyHandle
    number: int
    arguments: Sequence[str]
    say: Callable[[str], None]
    failed: bool = field(default=False, init=False)
    _children: list[_Child] = field(default_factory=list, init=False)
    _stopping: bool = field(default=False, init=False)
    _deaths: int = field(default=0, init=False)
    _finished: int = field(default=0, init=False)
    _reaped: float = field(default=0.0, init=False)

    def start(self) -> None:
        """Start all workers."""
        self._reaped = time.monotonic()
        for _ in range(self.number):
            self._start_one()

    def watch(self) -> bool:
        """Look after the workers once; return whether any is left."""
        if time.monotonic() - self._reaped > REAPING:
            self._reaped = time.monotonic()
            if lost := self.study.queue.hand_back_stale(GRACE):
                self.say(f"{lost} trial(s) of silent workers were queued anew")
        for child in list(self._children):
            if child.process.poll() is not None:
                self._bury(child)
        return bool(self._children)

    def stop(self) -> None:
        """Ask all workers to stop after the epoch; asked again, at once."""
        self._stopping = True
        for child in self._children:
            child.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End all workers at once and queue their trials anew."""
        self._stopping = True
        for child in list(self._children):
            child.process.kill()
            child.process.wait()
            self._bury(child)

    def _start_one(self) -> None:
        name = f"{os.uname().nodename}-{uuid.uuid4().hex[:12]}"
        command = [sys.executable, "-m", "schedsearch", "worker", self.study.name]
        process = subprocess.Popen(
            [*command, "--name", name, "--quiet", *self.arguments],
            # By the environment: a command line is for everybody to read, and may hold a password.
            env=os.environ | {"SCHEDSEARCH_STORAGE": self.study.database.url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # Ctrl-C is for us; we tell them.
            start_new_session=True,
        )
        assert process.stderr is not None
        reader = threading.Thread(target=self._pass_on, args=(process.stderr,), daemon=True)
        reader.start()
        self._children.append(_Child(name, process, reader))

    def _pass_on(self, lines: IO[str]) -> None:
        for line in lines:
            self.say(line.rstrip("\n"))

    def _bury(self, child: _Child) -> None:
        """See to what an ended worker leaves behind, and replace it if it did not mean to end."""
        self._children.remove(child)
        child.reader.join()
        code = child.process.returncode
        lost = self.study.queue.hand_back_all_of(child.name)
        if code == 0 or self._stopping:
            self._replace_if_queued()
            return
        if code > 0:
            # It has said why, and another one would fail alike.
            self.failed = True
            return
        name = signal.Signals(-code).name
        self.say(f"a worker was killed ({name}): {lost} trial(s) queued anew")
        finished = self.study.queue.counts().finished
        self._deaths = 1 if finished > self._finished else self._deaths + 1
        self._finished = finished
        if self._deaths < DEATHS_IN_A_ROW:
            self._start_one()
        else:
            self.failed = True
            self.say(f"{self._deaths} workers were killed in a row: no more are started")

    def _replace_if_queued(self) -> None:
        """The last worker may end just before another's trial is queued anew."""
        if self._stopping or self._children or self.failed:
            return
        if self.study.queue.counts().waiting:
            self._start_one()
