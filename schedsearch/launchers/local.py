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
from typing import IO, TYPE_CHECKING, Protocol

from schedsearch.launchers.base import WorkerExit, WorkerSpec

if TYPE_CHECKING:
    from schedsearch.launchers.fork_server import ForkedProcess, ForkServer

#: Seconds to wait for the last lines of a worker that has ended.
_LAST_LINES = 5.0


class _Process(Protocol):
    """What `subprocess.Popen` and a fork have in common."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def send_signal(self, sig: int) -> None: ...

    def wait(self) -> object: ...


class LocalLauncher:
    """Starts workers as processes of this machine.

    Args:
        forks: whether they are forks of one process that has loaded torch. The caller checks that
            they can be: `can_fork`.
    """

    def __init__(self, *, forks: bool = False) -> None:
        self._forks = forks
        self._server: ForkServer | None = None

    def prepare(self) -> None:
        """Start to load what workers need, beside what this process does."""
        if self._forks and self._server is None:
            from schedsearch.launchers.fork_server import ForkServer

            self._server = ForkServer()

    def close(self) -> None:
        """Let the process that workers are forks of end; they stop after the epoch."""
        if self._server is not None:
            self._server.close()

    def launch(self, spec: WorkerSpec, on_line: Callable[[str], None]) -> LocalWorker:
        """Start a worker process that does not receive this terminal's Ctrl-C."""
        process = self._start(spec)
        assert process.stdout is not None
        reader = threading.Thread(
            target=_forward_lines, args=(process.stdout, on_line), daemon=True
        )
        reader.start()
        return LocalWorker(process, reader)

    def _start(self, spec: WorkerSpec) -> subprocess.Popen[str] | ForkedProcess:
        with suppress(OSError):  # it cannot load torch, and the worker will say why
            self.prepare()
            if self._server is not None:
                return self._server.fork(spec, {**os.environ, **spec.environment})
        return start_process(spec, os.environ)


class LocalWorker:
    """A worker as a process of this machine, and the thread that reads its output."""

    def __init__(self, process: _Process, reader: threading.Thread) -> None:
        self._process, self._reader = process, reader

    @property
    def pid(self) -> int:
        """The process, which leads a session of its own."""
        return self._process.pid

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


def kill_group(process: _Process) -> None:
    """End a process with all its child processes, and wait until it is gone.

    Children live on where the process has ended by itself.
    """
    with suppress(ProcessLookupError, PermissionError):  # macOS refuses a group that has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.send_signal(signal.SIGKILL)  # a fork may not lead its group yet
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
