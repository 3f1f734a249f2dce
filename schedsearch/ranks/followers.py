"""Rank 0's connections to the other ranks: calls to all of them, and their answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from schedsearch.errors import TrainingRefusedError
from schedsearch.ranks.messages import message_bytes, receive

#: Seconds between two checks for signals while rank 0 waits for answers.
_POLL_SECONDS = 1.0


class RankDiedError(TrainingRefusedError):
    """The process of another rank ended, so the trial returns to the queue."""

    exit_code = 1


class RankFailedError(Exception):
    """The training loop of another rank raised; the cause has the traceback of that process.

    Args:
        rank: of the process.
        line: describes the exception.
    """

    def __init__(self, rank: int, line: str) -> None:
        super().__init__(f"rank {rank}: {line}")
        self.line = line


class RemoteTracebackError(Exception):
    """The traceback of another process, which is printed as the cause of an error here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._text = text

    def __str__(self) -> str:
        return f"\n{self._text}"


class Followers:
    """The ranks from 1 on, each of which answers each call once.

    Args:
        connections: to rank 1, rank 2 and so on.
        describe_end: returns how the process of a rank ended, in words.

    Attributes:
        failure: the first error of a call on any rank, after which no call is possible: the ranks
            may wait for each other for ever.
    """

    def __init__(
        self, connections: Sequence[Connection], describe_end: Callable[[int], str]
    ) -> None:
        self._connections, self._describe_end = list(connections), describe_end
        self.failure: Exception | None = None
        # Answers have the number of their call, since those of a call that failed are not read.
        self._call_number = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._reports: dict[int, Mapping[str, Any]] = {}
        # The loop's thread reads, too.
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._connections)

    @property
    def is_broken(self) -> bool:
        """Whether a call has failed on any rank."""
        return self.failure is not None

    def fail(self, error: Exception) -> None:
        """Refuse all further calls, because of this error if it is the first one."""
        self.failure = self.failure or error

    def call(self, name: str, **content: Any) -> None:
        """Let all ranks make a call; `answers` returns the results.

        Raises what made an earlier call fail.

        Raises:
            RankDiedError: the process of a rank has ended.
        """
        if self.failure is not None:
            raise self.failure
        encoded = message_bytes({"call": name, "number": self._call_number + 1, **content})
        self._call_number += 1
        self._answers.clear()
        self._reports.clear()
        for rank, connection in enumerate(self._connections, start=1):
            try:
                connection.send_bytes(encoded)
            except OSError:
                raise self._died(rank) from None

    def answers(self) -> list[dict[str, Any]]:
        """Wait for the answers to the last call, and return them by rank.

        Raises:
            RankFailedError: a rank raised.
            RankDiedError: the process of a rank has ended.
        """
        while len(self._answers) < len(self._connections):
            self._read(_POLL_SECONDS)
        return [self._answers[rank] for rank in sorted(self._answers)]

    def reports(self) -> Mapping[int, Mapping[str, Any]]:
        """Wait until each rank has reported or ended its epoch; return the reports by rank.

        Raises:
            RankFailedError: a rank raised.
            RankDiedError: the process of a rank has ended.
        """
        while len(self._answers.keys() | self._reports.keys()) < len(self._connections):
            self._read(_POLL_SECONDS)
        return dict(self._reports)

    def check(self) -> None:
        """Raise if a rank has raised or ended, instead of waiting for it."""
        self._read(0.0)

    def raised_before(self, seconds: float) -> RankFailedError | RankDiedError | None:
        """Wait so many seconds for the error of another rank, by which rank 0 may have failed."""
        end = time.monotonic() + seconds
        try:
            while len(self._answers) < len(self._connections) and time.monotonic() < end:
                self._read(max(0.0, end - time.monotonic()))
        except (RankFailedError, RankDiedError) as error:
            return error
        # The loop's thread may have read it.
        failure = self.failure
        return failure if isinstance(failure, RankFailedError | RankDiedError) else None

    def close(self) -> None:
        """End the connections, which ends the other ranks."""
        for connection in self._connections:
            connection.close()

    def _read(self, timeout: float) -> None:
        with self._lock:
            if self.failure is not None:
                raise self.failure
            self._read_messages(timeout)

    def _read_messages(self, timeout: float) -> None:
        pending = {
            connection: rank
            for rank, connection in enumerate(self._connections, start=1)
            if rank not in self._answers
        }
        for ready in wait(list(pending), timeout):
            assert isinstance(ready, Connection)
            rank = pending[ready]
            try:
                message = receive(ready)
            except (EOFError, OSError):
                raise self._died(rank) from None
            if message["number"] != self._call_number:
                continue
            if "report" in message:
                self._reports[rank] = message["report"]
                continue
            self._answers[rank] = message
            if "error" in message:
                self.failure = RankFailedError(rank, message["error"])
                raise self.failure from RemoteTracebackError(message["traceback"])

    def _died(self, rank: int) -> RankDiedError:
        error = RankDiedError(
            f"the process of rank {rank} ended{self._describe_end(rank)}: its trial is queued again"
        )
        self.fail(error)
        return error
