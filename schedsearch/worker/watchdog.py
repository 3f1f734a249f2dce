"""A limit to the time that an epoch takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """Calls a function, in another thread, as soon as some work takes too long.

    A thread cannot be ended from outside, so the function is to end the process. Work that ends
    while the function is called waits for it.

    Args:
        seconds: how long the work may take; None: as long as it needs.
        on_timeout: the function to call.
    """

    def __init__(self, seconds: float | None, on_timeout: Callable[[], None]) -> None:
        self._seconds, self._on_timeout = seconds, on_timeout
        self._lock = threading.Lock()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Limit the time of the work inside."""
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
