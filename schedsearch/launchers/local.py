"""Worker processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from schedsearch.launchers.base import WorkerExit, WorkerSpec

#: Seconds to wait for the last lines of a worker that has ended.
_LAST_LINES = 5.0


class LocalLauncher:
    """Starts workers as child processes."""

    def launch(self, spec: WorkerSpec, on_line: Callable[[str], None]) -> LocalWorker:
        """Start a worker process that does not receive this terminal's Ctrl-C."""
        process = start_process(spec, os.environ)
        assert process.stdout is not None
        reader = threading.Thread(
            target=_forward_lines, args=(process.stdout, on_line), daemon=True
        )
        reader.start()
        return LocalWorker(process, reader)


class LocalWorker:
    """A worker as a child process, and the thread that reads its output."""

    def __init__(self, process: subprocess.Popen[str], reader: threading.Thread) -> None:
        self._process, self._reader = process, reader

    def poll(self) -> WorkerExit | None:
        code = self._process.poll()
        if code is None:
            return None
        self._reader.join(_LAST_LINES)
        return worker_exit(code)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        kill_group(self._process)
        self._reader.join(_LAST_LINES)


def start_process(spec: WorkerSpec, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a worker as the leader of a new session; `stdout` has all output, the task's too."""
    return subprocess.Popen(
        spec.command(sys.executable, os.getpid()),
        env={**environment, **spec.environment},
        # The task may have changed this process's folder; another host may lack the folder.
        cwd=spec.folder if Path(spec.folder).is_dir() else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # The supervisor passes Ctrl-C on.
        start_new_session=True,
    )


def kill_group(process: subprocess.Popen[str]) -> None:
    """End a process with all its child processes, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def worker_exit(code: int) -> WorkerExit:
    """Return how a process ended, from its exit code: negative for a signal."""
    return WorkerExit(code, _signal_name(-code) if code < 0 else None)


def _forward_lines(lines: IO[str], on_line: Callable[[str], None]) -> None:
    with lines:
        for line in lines:
            on_line(line.rstrip("\n"))


def _signal_name(number: int) -> str:
    """Return a signal's name; real-time signals have none."""
    known = {one.value: one.name for one in signal.Signals}
    return known.get(number, f"signal {number}")
