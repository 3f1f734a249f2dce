"""A limit to the time that an epoch takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """Calls a function, in a thread of its own, as soon as something takes too long.

    No thread can be ended from outside, so the function is to end the process: whoever comes back
    late waits for that.

    Args:
        seconds: how long is too long; None: nothing is.
        bite: what to call.
    """

    def __init__(self, seconds: float | None, on_timeout: Callable[[], None]) -> None:
        self._seconds, self._on_timeout = seconds, on_timeout
        self._lock = threading.Lock()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what is done inside."""
        if self._seconds is None:
            yield
            return
        over = threading.Event()
        timer = threading.Timer(self._seconds, self._expire, [over])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            with self._lock:
                over.set()
            timer.cancel()

    def _expire(self, over: threading.Event) -> None:
        with self._lock:
            if not over.is_set():
                self._on_timeout()
