"""Ctrl-C and SIGTERM: once asks to stop after the epoch, twice stops at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether, and by what, this process was asked to stop."""

    def __init__(self) -> None:
        self.asked = 0
        self._parent: int | None = None

    def __bool__(self) -> bool:
        return self.asked > 0 or self._orphaned()

    def stop_with(self, parent: int) -> None:
        """Count the end of the parent process, by its id, as being asked to stop."""
        self._parent = parent

    def _orphaned(self) -> bool:
        return self._parent is not None and os.getppid() != self._parent

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1
        if self.asked == 2:  # a third must not disturb the handing back
            raise KeyboardInterrupt


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request; the second one raises KeyboardInterrupt."""
    request = StopRequest()
    before = {
        number: signal.signal(number, request._receive)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
