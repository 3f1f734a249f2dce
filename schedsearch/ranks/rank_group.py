"""All processes of a trial, as rank 0 has them: started, in use, and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from schedsearch.engines import Engine
from schedsearch.engines.loop import LoopEngine
from schedsearch.errors import InputError, SchedSearchError
from schedsearch.ranks.followers import Followers, RankDiedError
from schedsearch.ranks.joining import (
    ADDRESS_VARIABLE,
    GENERATION_VARIABLE,
    GroupStore,
    Rank,
    RankServer,
    connect,
    leave_process_group,
    look_up,
    point_to_store,
    publish,
)
from schedsearch.ranks.messages import receive
from schedsearch.space import Space

#: Seconds in which the other ranks end after they were told to.
_END_SECONDS = 10.0
_LOCALHOST = "127.0.0.1"
#: Seconds in which torchrun passes on a signal that each rank has got too, as from Slurm.
_MERGE_SECONDS = 1.0


class RankGroup:
    """Rank 0 and the processes that follow it.

    Args:
        size: the number of processes.
        children: the processes that this one has started; none under torchrun.
        host: at which the others find this process.
        environment: of this process before it had other ranks.
    """

    def __init__(
        self,
        size: int,
        host: str,
        children: Sequence[subprocess.Popen[bytes]],
        server: RankServer,
        environment: Mapping[str, str],
    ) -> None:
        self.size, self._children, self._environment = size, children, environment
        self._followers = Followers(
            server.accept_ranks(size - 1, self._check_children), self._how_ended
        )
        self._store = GroupStore(host)
        self._host = host
        self._engines = 0
        point_to_store(host, self._store.port)

    def set_up(self, space: Space, numerics: Mapping[str, Any]) -> None:
        """Let all ranks load the task of a space."""
        self._followers.call(
            "setup",
            space=space.to_document(),
            numerics=dict(numerics),
            host=self._host,
            port=self._store.port,
        )

    @property
    def is_broken(self) -> bool:
        """Whether a rank has failed: the others may wait for it, so all have to begin again."""
        return self._followers.is_broken

    def lead(self, engine: Engine, arguments: Mapping[str, Any]) -> Engine:
        """Return an engine that trains on all ranks, from that of rank 0.

        Args:
            engine: of a training loop.
            arguments: of the plans that it trains.

        Raises:
            InputError: it is the engine of a Task.
        """
        from schedsearch.ranks.leading import LeadingEngine

        if not isinstance(engine, LoopEngine):
            raise InputError(
                f"{self.size} processes need a training loop, but the task is a Task, which one "
                "process trains: start the command without torchrun"
            )
        number, self._engines = self._engines, self._engines + 1
        self._followers.call("make", engine=number, arguments=dict(arguments))
        self._followers.answers()
        return LeadingEngine(engine, self._followers, number)

    def stop(self) -> dict[str, str]:
        """End the other ranks at once; return the environment in which this worker begins again."""
        self._followers.close()
        for child in self._children:
            child.kill()
        for child in self._children:
            # This process is replaced, so the new one could not wait for them.
            with suppress(subprocess.TimeoutExpired):
                child.wait(_END_SECONDS)
        environment = dict(self._environment)
        if not self._children:
            environment[GENERATION_VARIABLE] = str(_generation(environment) + 1)
        return environment

    def close(self) -> None:
        """Let the other ranks end, and wait for those that this process has started."""
        if not self.is_broken:
            with suppress(RankDiedError):
                self._followers.call("end")
                leave_process_group()
        self._followers.close()
        for child in self._children:
            try:
                child.wait(0 if self.is_broken else _END_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _check_children(self) -> None:
        for rank, child in enumerate(self._children, start=1):
            if child.poll() is not None:
                raise SchedSearchError(f"the process of rank {rank} ended{self._how_ended(rank)}")

    def _how_ended(self, rank: int) -> str:
        if not self._children:
            return ""
        try:
            code = self._children[rank - 1].wait(1.0)
        except subprocess.TimeoutExpired:
            return ""
        return f" ({signal.Signals(-code).name})" if code < 0 else f" (exit code {code})"


@contextmanager
def rank_group(processes: int, study: str) -> Iterator[RankGroup | None]:
    """Yield the processes of a trial, of which this is rank 0; None if there is only this one.

    Under torchrun, it has started them. Otherwise this process starts them.

    Args:
        processes: how many train a trial, according to the study; the number of torchrun takes
            precedence.
        study: the name of the study.
    """
    before, rank = dict(os.environ), Rank.of(os.environ)
    if rank is None and processes == 1:
        yield None
        return
    host = _LOCALHOST if rank is None else before["MASTER_ADDR"]
    server = RankServer(host)
    children: list[subprocess.Popen[bytes]] = []
    if rank is None:
        rank = Rank(0, processes)
        os.environ |= _variables(rank)
        for number in range(1, processes):
            environment = _variables(Rank(number, processes))
            environment[ADDRESS_VARIABLE] = server.address.to_text()
            children.append(_start(study, environment))
    else:
        publish(server.address, before)
    try:
        group = RankGroup(rank.size, host, children, server, before)
    except BaseException:
        for child in children:
            child.kill()
        raise
    try:
        yield group
    finally:
        group.close()


def merge_seconds() -> float:
    """Return for how many seconds the signals that this process gets are one signal."""
    return 0.0 if Rank.of(os.environ) is None else _MERGE_SECONDS


def follow_rank_0(rank: Rank) -> int:
    """Follow rank 0 until it ends; return the exit code of this process.

    Under torchrun, this process replaces itself when rank 0 did. After a signal rank 0 ends without
    a successor, and so does this process.
    """
    from schedsearch.ranks.following import RankEnded, follow

    environment, signals = dict(os.environ), list[int]()
    try:
        address = look_up(environment)
        connection = connect(address, rank.number)
        # Rank 0 says when to stop: after the epoch, and all ranks together.
        for number in (signal.SIGINT, signal.SIGTERM):
            if ADDRESS_VARIABLE in environment:
                signal.signal(number, signal.SIG_IGN)
            else:
                signal.signal(number, lambda number, frame: signals.append(number))
        setup = receive(connection)
        if setup["call"] == "end":
            return 0
        point_to_store(setup["host"], setup["port"])
        follow(connection, rank.number, setup)
        leave_process_group()
    except (EOFError, OSError, RankEnded):
        if ADDRESS_VARIABLE in environment:
            os._exit(1)  # at once: the loop may hang
        if signals:
            os._exit(130)
        environment[GENERATION_VARIABLE] = str(_generation(environment) + 1)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    return 0


def _generation(environment: Mapping[str, str]) -> int:
    return int(environment.get(GENERATION_VARIABLE, "0"))


def _variables(rank: Rank) -> dict[str, str]:
    """Return the variables by which torchrun tells a process its place."""
    return {
        "RANK": str(rank.number),
        "LOCAL_RANK": str(rank.number),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(rank.size),
        "LOCAL_WORLD_SIZE": str(rank.size),
        "MASTER_ADDR": _LOCALHOST,
        "MASTER_PORT": "0",
        "TORCHELASTIC_RUN_ID": "schedsearch",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }


def _start(study: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start another rank in this process group, which ignores Ctrl-C from the beginning."""
    command = [sys.executable, "-m", "schedsearch", "worker", "--", study]
    ignored = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        # Ignored signals stay ignored in a new program.
        return subprocess.Popen(
            command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL
        )
    finally:
        for number, handler in ignored.items():
            signal.signal(number, handler)
