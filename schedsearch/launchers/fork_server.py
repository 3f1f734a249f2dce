"""Workers as forks of a process that has loaded what they need: they begin in one second, not six.

The command starts the server as soon as the user has allowed the task, and goes on. Both talk
through a socket: a request is a number and two files, what to work on and where the output goes; an
answer is a line with the process that began or ended, see `schedsearch.cli.fork_server`. The server
ends with the command, and its forks stop as workers do whose parent has ended.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import IO

from schedsearch.launchers.base import WorkerSpec

#: The module that is the server.
_SERVER = "schedsearch.cli.fork_server"
#: The answer to a request that failed.
NO_PROCESS = 0
#: Devices of GPUs: a process that has asked CUDA for one leaves none to its forks.
_GPUS = ("nvidia[0-9]*", "kfd", "dxg")
_DEVICES = Path("/dev")


def can_fork() -> bool:
    """Return whether workers can be forks: on Linux, without a GPU.

    Some builds of Python for old systems lack the calls that it takes.
    """
    has_gpu = any(any(_DEVICES.glob(pattern)) for pattern in _GPUS)
    has_calls = all(hasattr(os, name) for name in ("memfd_create", "pidfd_open"))
    return sys.platform == "linux" and has_calls and not has_gpu


@dataclass
class ForkServer:
    """The command's side: the server starts at once, and again if it was killed."""

    _channel: socket.socket = field(init=False)
    _process: subprocess.Popen[bytes] = field(init=False)
    _codes: dict[int, int | None] = field(default_factory=dict, init=False)
    #: By the number of a request.
    _begun: dict[int, int] = field(default_factory=dict, init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: cycle(range(256)), init=False)
    _received: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            # Ctrl-C is for the command, so it is in a session of its own.
            self._process = subprocess.Popen(
                [sys.executable, "-m", _SERVER, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process of the server."""
        return self._process.pid

    def close(self) -> None:
        """End the server, which may still load, as it ends by itself after this process."""
        self._process.kill()
        self._process.wait()
        self._channel.close()

    def fork(self, spec: WorkerSpec, environment: Mapping[str, str]) -> ForkedProcess:
        """Start a worker.

        Raises:
            OSError: the server has ended, for instance since it cannot load torch here.
        """
        if self._process.poll() is not None:
            while self._receive(wait=True):
                pass
            self._channel.close()
            self._start()
        content = {"spec": asdict(spec), "environment": dict(environment)}
        with ExitStack() as stack:
            request = os.memfd_create("request")
            stack.callback(os.close, request)
            reader, writer = os.pipe()
            stack.callback(os.close, writer)
            unless_begun = stack.enter_context(ExitStack())
            unless_begun.callback(os.close, reader)
            os.write(request, json.dumps(content).encode())
            self._wake()
            self._channel.setblocking(True)
            number = next(self._numbers)
            socket.send_fds(self._channel, [bytes([number])], [request, writer])
            pid = self._begun_pid(number)
            unless_begun.pop_all()
        return ForkedProcess(self, pid, os.fdopen(reader, errors="replace"))

    def _begun_pid(self, number: int) -> int:
        """Wait for the answer to a request; that to an interrupted one may come first."""
        while number not in self._begun:
            if not self._receive(wait=True):
                raise ConnectionResetError("the fork server has ended")
        if (pid := self._begun.pop(number)) == NO_PROCESS:
            raise OSError("the fork server cannot start another process")
        return pid

    def exit_code(self, pid: int, *, wait: bool = False) -> int | None:
        """Return the exit code of a fork, negative for a signal; None: it runs."""
        if wait:
            self._wake()
        while self._codes[pid] is None and self._receive(wait=wait) and wait:
            pass
        return self._codes[pid]

    def _wake(self) -> None:
        """Continue the server if it is suspended: it would not answer."""
        self._process.send_signal(signal.SIGCONT)

    def _receive(self, *, wait: bool) -> bool:
        """Read answers, if there are any; return whether the server is alive."""
        self._channel.setblocking(wait)
        try:
            received = self._channel.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            received = b""
        *lines, self._received = (self._received + received).split(b"\n")
        for line in lines:
            pid, code, number = json.loads(line)
            if number is not None:
                self._begun[number] = pid
            if pid != NO_PROCESS:  # to signals, 0 is the group of this process
                self._codes[pid] = code
        if not received:
            self._end_orphans()
        return bool(received)

    def _end_orphans(self) -> None:
        """End the forks of a server that was killed: they would stop after their epoch."""
        self._received = b""
        for pid in [pid for pid, code in self._codes.items() if code is None]:
            for end in (os.killpg, os.kill):  # it may not lead its group yet
                with suppress(ProcessLookupError):
                    end(pid, signal.SIGKILL)
            self._codes[pid] = -signal.SIGKILL


@dataclass(frozen=True)
class ForkedProcess:
    """A worker process, in the terms of `subprocess.Popen`; it leads a session of its own.

    Attributes:
        stdout: all of its output, that of the task too.
    """

    _server: ForkServer
    pid: int
    stdout: IO[str]

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None: the process runs."""
        return self._server.exit_code(self.pid)

    def send_signal(self, sig: int) -> None:
        """Send a signal, if the process has not ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def wait(self) -> None:
        """Wait until the process has ended."""
        self._server.exit_code(self.pid, wait=True)
