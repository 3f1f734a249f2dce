"""Ctrl-C and SIGTERM: once asks to stop after the epoch, twice stops at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Seconds that the handing back may take after a second signal.
_LAST = 10.0


class StopRequest:
    """Whether, and by what, this process was asked to stop."""

    def __init__(self) -> None:
        self.asked = 0
        self._parent: int | None = None
        self._asked_twice, self._over = threading.Event(), threading.Event()
        # Begun before it is needed: a signal handler had better not begin a thread.
        threading.Thread(target=self._end_process, name="signals", daemon=True).start()

    def __bool__(self) -> bool:
        return self.asked > 0 or self._orphaned()

    def stop_when_parent_exits(self, parent: int) -> None:
        """Count the end of the parent process, by its id, as being asked to stop."""
        self._parent = parent

    def _orphaned(self) -> bool:
        return self._parent is not None and os.getppid() != self._parent

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1
        if self.asked == 2:  # a third must not disturb the handing back
            self._asked_twice.set()
            raise KeyboardInterrupt

    def _end_process(self) -> None:
        """End, soon after the second signal, what a database or a library holds up."""
        self._asked_twice.wait()
        if not self._over.wait(_LAST):
            sys.stderr.write(
                "error: stopped at once, and the database could not be told: what was in training "
                "is queued anew after two minutes of silence\n"
            )
            sys.stderr.flush()
            os._exit(130)

    def _close(self) -> None:
        self._over.set()
        self._asked_twice.set()


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request; the second one raises KeyboardInterrupt.

    Ten seconds after the second one the process ends, whatever it does then.
    """
    request = StopRequest()
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
