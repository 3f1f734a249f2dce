"""Handling of SIGINT (Ctrl-C) and SIGTERM: the first stops after the epoch, the second at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

#: The line that commands print at the first signal.
STOPPING = "stopping after this epoch; Ctrl-C again stops at once"
#: Seconds for handing trials back after a second signal.
_GRACE_PERIOD = 10.0


class StopRequest:
    """Whether this process should stop: it received a signal, or its parent process ended."""

    def __init__(self, line: str | None = None, merge_seconds: float = 0.0) -> None:
        self.signal_count, self._line = 0, line
        self._merge_seconds, self._first = merge_seconds, 0.0
        self._parent: int | None = None
        self._second_signal, self._finished = threading.Event(), threading.Event()
        # Started in advance, because a signal handler should not start a thread.
        threading.Thread(target=self._end_process, name="signals", daemon=True).start()

    def __bool__(self) -> bool:
        return self.signal_count > 0 or self._is_orphaned()

    def stop_when_parent_exits(self, parent: int) -> None:
        """Request a stop as soon as the parent process with this id ends."""
        self._parent = parent

    def _is_orphaned(self) -> bool:
        return self._parent is not None and os.getppid() != self._parent

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal_count == 1 and now < self._first + self._merge_seconds:
            return
        self.signal_count += 1
        self._first = self._first or now
        if self.signal_count == 1 and self._line is not None:
            # Not by a stream: the signal may have interrupted a write to it.
            with suppress(OSError):
                os.write(2, f"{self._line}\n".encode())
        if self.signal_count == 2:  # a third signal must not interrupt the cleanup
            self._second_signal.set()
            raise KeyboardInterrupt

    def _end_process(self) -> None:
        """Exit if a database or a library blocks the cleanup after the second signal."""
        self._second_signal.wait()
        if not self._finished.wait(_GRACE_PERIOD):
            sys.stderr.write(
                "error: stopped without an update of the database: trials in training return to "
                "the queue two minutes after their last heartbeat, or at once on this host\n"
            )
            sys.stderr.flush()
            os._exit(130)

    def _close(self) -> None:
        self._finished.set()
        self._second_signal.set()


@contextmanager
def stop_signals(line: str | None = None, merge_seconds: float = 0.0) -> Iterator[StopRequest]:
    """Handle SIGINT and SIGTERM: the first sets the request, the second raises KeyboardInterrupt.

    The process exits with status 130 if it still runs ten seconds after the second signal.

    Args:
        line: printed on stderr at the first signal; None: nothing.
        merge_seconds: signals that come within so many seconds of the first one belong to it.
    """
    request = StopRequest(line, merge_seconds)
    before = {
        number: signal.signal(number, request._receive)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield request
    finally:
        request._close()
        for number, handler in before.items():
            signal.signal(number, handler)
