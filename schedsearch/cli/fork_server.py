"""The process whose forks are workers; see `schedsearch.launchers.fork_server`.

It loads what each worker needs, and computes nothing, so torch has no threads that a fork would
lose; those of NumPy's linear algebra are made for forks.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from schedsearch.garbage import keep_all, without_collection
from schedsearch.launchers.base import WorkerSpec
from schedsearch.launchers.fork_server import NO_PROCESS

_MODULES = (
    "schedsearch.cli.worker",
    "schedsearch.launchers.in_process",
    "schedsearch.report.dashboard_artifacts",
)
#: What most workers load later; while a command waits for a worker, it is not loaded here.
_MORE_MODULES = (
    "torch._dynamo",  # which the first optimizer loads
    "schedsearch.forecast",
    "torch._inductor.compile_fx",
)
#: What `ps -e` and `top` call a worker; Linux allows 15 characters.
NAME_OF_FORK = "schedsearch-wkr"
#: What a fork is told that it is.
_IN_FORK = -1
#: Signals that are for the command, which stops the workers.
_IGNORED = (signal.SIGINT, signal.SIGTERM)


def serve(channel: socket.socket, command: int) -> Callable[[], None]:
    """Fork at each request; return in each fork, with what it has to do.

    Args:
        channel: to the command.
        command: the process of the command.

    Raises:
        SystemExit: the command has ended.
    """
    selector = selectors.DefaultSelector()
    selector.register(channel, selectors.EVENT_READ)
    # A child of the command may keep the channel open.
    selector.register(os.pidfd_open(command), selectors.EVENT_READ, command)
    server = os.getpid()
    while True:
        for key, _ in selector.select():
            if key.data == command:
                raise SystemExit
            if key.fileobj is not channel:
                channel.sendall(_answer(key.data, _end(selector, key)))
                continue
            request_number, files, _, _ = socket.recv_fds(channel, 1, 2)
            if not files:
                raise SystemExit
            if (pid := _fork(selector)) == _IN_FORK:
                channel.detach()
                request, output = files
                return partial(_work, request, output, server)
            for file in files:
                os.close(file)
            channel.sendall(_answer(pid, None, *request_number))


def _fork(selector: selectors.BaseSelector) -> int:
    """Return the new process, `_IN_FORK` in that process, or `NO_PROCESS` if there is none."""
    # A signal waits until the fork has a handler for it: ignored, it would be lost.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
    try:
        pid = os.fork() or _IN_FORK
    except OSError:
        pid = NO_PROCESS
    if pid == _IN_FORK:
        for other in list(selector.get_map().values()):
            os.close(other.fd)
        selector.close()
        return pid
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if pid == NO_PROCESS:
        return pid
    try:
        selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return NO_PROCESS
    return pid


def _end(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> int:
    """Return the exit code of a fork that has ended."""
    _, status = os.waitpid(key.data, 0)
    selector.unregister(key.fileobj)
    os.close(key.fd)
    return os.waitstatus_to_exitcode(status)


def _answer(pid: int, code: int | None, request_number: int | None = None) -> bytes:
    return json.dumps((pid, code, request_number)).encode() + b"\n"


def _work(request: int, output: int, server: int) -> None:
    """Be `python -m schedsearch worker`."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
    with os.fdopen(request, "rb") as file:
        file.seek(0)
        content: dict[str, Any] = json.load(file)
    spec = WorkerSpec(**content["spec"] | {"flags": tuple(content["spec"]["flags"])})
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
    sys.orig_argv = list(spec.command(sys.executable, server))  # to start the same once more
    sys.argv = sys.orig_argv[2:]
    from schedsearch.cli import main

    main()


def _main() -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    command = os.getppid()
    os.close(os.pidfd_open(command))  # some sandboxes have no such call: the server ends at once
    channel = socket.socket(fileno=int(sys.argv[1]))
    with without_collection():
        for module in _MODULES:
            import_module(module)
        with selectors.DefaultSelector() as requests:
            requests.register(channel, selectors.EVENT_READ)
            for module in _MORE_MODULES:
                if not requests.select(0):
                    import_module(module)
    keep_all()
    serve(channel, command)()


if __name__ == "__main__":
    _main()
