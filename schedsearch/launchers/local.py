"""Worker processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO

from schedsearch.launchers.base import Assignment, WorkerExit

#: Seconds that a dead worker's last words may take.
_LAST_WORDS = 5.0


class LocalLauncher:
    """Starts workers as processes of this one."""

    def launch(self, assignment: Assignment, on_line: Callable[[str], None]) -> LocalWorker:
        """Start a worker process that Ctrl-C at this terminal does not reach."""
        process = start_process(assignment, os.environ)
        assert process.stderr is not None
        reader = threading.Thread(target=_pass_on, args=(process.stderr, on_line), daemon=True)
        reader.start()
        return LocalWorker(process, reader)


class LocalWorker:
    """A worker process of this one, and the thread that listens to it."""

    def __init__(self, process: subprocess.Popen[str], reader: threading.Thread) -> None:
        self._process, self._reader = process, reader

    def poll(self) -> WorkerExit | None:
        code = self._process.poll()
        if code is None:
            return None
        self._reader.join(_LAST_WORDS)
        return worker_exit(code)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        kill_group(self._process)
        self._reader.join(_LAST_WORDS)


def start_process(assignment: Assignment, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a worker as the leader of a session of its own; it speaks on stderr."""
    return subprocess.Popen(
        assignment.command(sys.executable, os.getpid()),
        env={**environment, **assignment.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # Ctrl-C is for us; we tell them.
        start_new_session=True,
    )


def kill_group(process: subprocess.Popen[str]) -> None:
    """End a process with all that it started, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def worker_exit(code: int) -> WorkerExit:
    """Return how a process ended, from its exit code; a signal's is negative."""
    return WorkerExit(code, _signal_name(-code) if code < 0 else None)


def _pass_on(lines: IO[str], on_line: Callable[[str], None]) -> None:
    with lines:
        for line in lines:
            on_line(line.rstrip("\n"))


def _signal_name(number: int) -> str:
    """Return a signal's name; those of real time have none."""
    known = {one.value: one.name for one in signal.Signals}
    return known.get(number, f"signal {number}")
