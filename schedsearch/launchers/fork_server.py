"""A process that loads what workers need once, and forks them: they begin in one second, not six.

The command starts it as soon as the user has allowed the task, and goes on. Both talk through a
socket: a request is two files, what to work on and where the output goes; an answer is a line with
the process that began or ended. Once the socket is closed, the server ends, and its forks stop as
workers do whose parent has ended.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from schedsearch.garbage import keep_all, without_collection
from schedsearch.launchers.base import WorkerSpec

#: What each worker loads. Nothing of it computes, so there are no threads that a fork would lose.
_MODULES = (
    "schedsearch.cli.worker",
    "schedsearch.forecast",
    "schedsearch.launchers.in_process",
    "schedsearch.report.dashboard_artifacts",
    "torch._dynamo",  # which the first optimizer loads
    "torch._inductor.compile_fx",
)
#: Devices of GPUs: a process that has asked CUDA for one leaves none to its forks.
_GPUS = ("nvidia[0-9]*", "kfd", "dxg")
#: What `ps -e` and `top` call a worker; Linux allows 15 characters.
NAME_OF_FORK = "schedsearch-wkr"


def can_fork() -> bool:
    """Return whether workers can be forks: on Linux, without a GPU."""
    has_gpu = any(any(Path("/dev").glob(pattern)) for pattern in _GPUS)
    return sys.platform == "linux" and not has_gpu


@dataclass
class ForkServer:
    """The command's side: the server starts at once, and again if it was killed."""

    _channel: socket.socket = field(init=False)
    _process: subprocess.Popen[bytes] = field(init=False)
    _codes: dict[int, int | None] = field(default_factory=dict, init=False)
    _begun: list[int] = field(default_factory=list, init=False)
    _received: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            # Ctrl-C is for the command, so it is in a session of its own.
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
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
        request = os.memfd_create("request")
        reader, writer = os.pipe()
        try:
            content = {"spec": asdict(spec), "environment": dict(environment)}
            os.write(request, json.dumps(content).encode())
            socket.send_fds(self._channel, [b"\0"], [request, writer])
            while not self._begun:
                if not self._receive(wait=True):
                    raise ConnectionResetError("the fork server has ended")
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(request)
            os.close(writer)
        return ForkedProcess(self, self._begun.pop(), os.fdopen(reader, errors="replace"))

    def exit_code(self, pid: int, *, wait: bool = False) -> int | None:
        """Return the exit code of a fork, negative for a signal; None: it runs."""
        while self._codes[pid] is None and self._receive(wait=wait) and wait:
            pass
        return self._codes[pid]

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
            pid, code = json.loads(line)
            self._codes[pid] = code
            self._begun += [pid] if code is None else []
        if not received:
            self._end_orphans()
        return bool(received)

    def _end_orphans(self) -> None:
        """End the forks of a server that was killed: they would stop after their epoch."""
        self._received = b""
        for pid in [pid for pid, code in self._codes.items() if code is None]:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
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


def _serve(channel: socket.socket) -> Callable[[], None]:
    """Fork at each request; return in each fork, with what it has to do.

    Raises:
        SystemExit: the command has ended.
    """
    selector = selectors.DefaultSelector()
    selector.register(channel, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is channel:
                _, files, _, _ = socket.recv_fds(channel, 1, 2)
                if not files:
                    raise SystemExit
                pid = os.fork()
                if not pid:
                    for other in list(selector.get_map().values()):
                        os.close(other.fd)
                    channel.detach()
                    selector.close()
                    return partial(_work, *files)
                for file in files:
                    os.close(file)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
                answer: tuple[int, int | None] = (pid, None)
            else:
                _, status = os.waitpid(key.data, 0)
                selector.unregister(key.fileobj)
                os.close(key.fd)
                answer = (key.data, os.waitstatus_to_exitcode(status))
            channel.sendall(json.dumps(answer).encode() + b"\n")


def _work(request: int, output: int) -> None:
    """Be `python -m schedsearch worker`."""
    with os.fdopen(request, "rb") as file:
        file.seek(0)
        content: dict[str, Any] = json.load(file)
    spec = WorkerSpec(**content["spec"] | {"flags": tuple(content["spec"]["flags"])})
    parent = os.getppid()
    os.setsid()
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)
    with suppress(OSError):
        Path("/proc/self/comm").write_text(NAME_OF_FORK)
    os.environ.clear()
    os.environ.update(content["environment"])
    if Path(spec.folder).is_dir():
        os.chdir(spec.folder)
        if not sys.flags.safe_path:
            sys.path[0] = spec.folder
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()  # all forks have the state of the server
    sys.argv = list(spec.command(sys.executable, parent)[2:])
    from schedsearch.cli import main

    main()


def _main() -> None:
    os.pidfd_open(os.getpid())  # some sandboxes have no such call: the server ends at once
    channel = socket.socket(fileno=int(sys.argv[1]))
    with without_collection():
        for module in _MODULES:
            import_module(module)
    keep_all()
    _serve(channel)()


if __name__ == "__main__":
    _main()
