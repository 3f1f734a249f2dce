"""Workers on a Ray cluster: Ray places them, and places them again if an actor or a node dies."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

from schedsearch.errors import InputError
from schedsearch.launchers.base import WorkerExit, WorkerSpec
from schedsearch.launchers.local import kill_group, start_process, worker_exit

try:
    import ray
    from ray.exceptions import RayActorError
except ImportError as error:
    raise InputError("--on ray needs Ray: pip install 'schedsearch[ray]'") from error

#: Seconds to wait for a place before a warning is printed.
_WARN_AFTER = 15.0
#: Seconds to wait for a killed worker to end.
_KILL_TIMEOUT = 5.0


class _WorkerActor:
    """An actor that runs a worker as a child process.

    The worker is not the actor itself. So it is stopped, killed and read like a worker on this
    machine, and a task that ends its process ends only the worker.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ready(self) -> None:
        """Answer, once Ray has placed the actor."""

    def work(self, spec: WorkerSpec, environment: Mapping[str, str]) -> Iterator[str | int]:
        """Run a worker; yield each line of its output, and its exit code last."""
        self._process = start_process(spec, {**os.environ, **environment})
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                yield line.rstrip("\n")
        yield self._process.wait()

    def stop(self) -> None:
        """Ask the worker to stop after the epoch."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the worker and its child processes."""
        if self._process is not None:
            kill_group(self._process)


class RayWorker:
    """A worker in an actor: the actor is placed first, then the worker starts in it."""

    def __init__(
        self,
        actor: Any,
        begin: Callable[[Any], Any],
        on_line: Callable[[str], None],
        release: Callable[[Any, WorkerExit], None],
    ) -> None:
        self._actor, self._begin, self._on_line, self._release = actor, begin, on_line, release
        # Retried however often the actor is placed again in the meantime.
        self._placed = actor.ready.options(max_task_retries=-1).remote()
        self._asked = time.monotonic()
        self._warned = self._stopped = False
        self._lines: Any = None

    def poll(self) -> WorkerExit | None:
        try:
            end = self._read_lines()
        except RayActorError:
            end = WorkerExit(1, "its Ray actor or node died")
        if end is not None:
            self._release(self._actor, end)
        return end

    def _read_lines(self) -> WorkerExit | None:
        if self._lines is None:
            if self._stopped:
                return WorkerExit(0)
            if not _is_ready(self._placed):
                self._warn_of_waiting()
                return None
            ray.get(self._placed)
            self._lines = self._begin(self._actor)
        while _is_ready(self._lines):
            line = ray.get(next(self._lines))
            if isinstance(line, int):
                return worker_exit(line)
            self._on_line(line)
        return None

    def _warn_of_waiting(self) -> None:
        if not self._warned and time.monotonic() - self._asked > _WARN_AFTER:
            self._warned = True
            self._on_line("warning: Ray has no room for all workers yet: the others wait")

    def stop(self) -> None:
        self._stopped = True
        if self._lines is not None:
            self._actor.stop.remote()

    def kill(self) -> None:
        if self._lines is not None:
            with suppress(RayActorError, ray.exceptions.GetTimeoutError):
                ray.get(self._actor.kill.remote(), timeout=_KILL_TIMEOUT)
        ray.kill(self._actor)


def _is_ready(reference: Any) -> bool:
    return bool(ray.wait([reference], timeout=0)[0])


class RayLauncher:
    """Starts workers as actors of the Ray cluster that this process has joined.

    Args:
        cpus: that Ray counts for each worker.
        gpus: that Ray gives to each worker; a fraction shares one.
    """

    def __init__(self, cpus: float, gpus: float) -> None:
        # Ray places an actor again as often as it or its node dies. Two calls run at a time: one
        # reads the worker's output, the other stops the worker.
        options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": -1, "max_concurrency": 2}
        self._allocator = ray.remote(_WorkerActor).options(**options)
        self._vacant: list[Any] = []

    def prepare(self) -> None:
        """Do nothing: the workers may be on other machines."""

    def launch(self, spec: WorkerSpec, on_line: Callable[[str], None]) -> RayWorker:
        """Ask Ray for a place, or reuse the place of a killed worker."""
        actor = self._vacant.pop() if self._vacant else self._allocator.remote()
        # As arguments of a call, since Ray displays and logs the environments that it sets up.
        own = {name: value for name, value in os.environ.items() if name.startswith("SCHEDSEARCH_")}

        def begin(placed: Any) -> Any:
            call = placed.work.options(num_returns="streaming")
            return call.remote(spec, own)

        return RayWorker(actor, begin, on_line, self._release)

    def _release(self, actor: Any, end: WorkerExit) -> None:
        if end.killed_by is None:
            ray.kill(actor)
        else:
            self._vacant.append(actor)


@contextmanager
def ray_launcher(
    storage: str, *, address: str | None, cpus: float, gpus: float
) -> Iterator[RayLauncher]:
    """Join a Ray cluster, or start a new one on this machine alone if there is none.

    Args:
        storage: the database's URL.
        address: host:port of the cluster's head; None asks the variable RAY_ADDRESS, then this
            machine.
        cpus: that Ray counts for each worker.
        gpus: that Ray gives to each worker.

    Raises:
        InputError: the cluster cannot be joined, has no node that could hold a worker, or has
            several nodes, which cannot share a SQLite file.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is not None and "://" in address:
        raise InputError(f"--address is {address}, but must be host:port of the cluster's head")
    # Ray writes to stdout, which is for data; its errors are reported here.
    with redirect_stdout(io.StringIO()):
        _join(address)
        try:
            _check_nodes(storage, cpus, gpus)
            yield RayLauncher(cpus, gpus)
        finally:
            ray.shutdown()


def _join(address: str | None) -> None:
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"no Ray cluster at {address or 'RAY_ADDRESS'}: {reason}") from error


def _check_nodes(storage: str, cpus: float, gpus: float) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if len(nodes) > 1 and storage.startswith("sqlite"):
        raise InputError(
            f"the Ray cluster has {len(nodes)} nodes, which cannot share a SQLite file: "
            "give the --storage of a PostgreSQL or MySQL server that all of them reach"
        )
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        raise InputError(
            f"no node of the Ray cluster has the CPUs ({cpus:g}) and GPUs ({gpus:g}) of a worker: "
            "lower --cpus-per-worker, --gpus-per-worker or --threads"
        )
