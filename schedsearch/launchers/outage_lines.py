"""One report of each outage of the database, however many processes notice it."""

from __future__ import annotations

import threading

from schedsearch.storage import is_end_of_outage_line, is_outage_line


class OutageLines:
    """Chooses the lines about outages to print: the first, and the last when all have recovered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._affected: set[str] = set()

    def is_news(self, line: str, process: str) -> bool:
        """Return whether to print a line; other lines than those about outages are always news.

        Args:
            line: a line of a process.
            process: the name of the process.

        >>> lines = OutageLines()
        >>> begin, end = "warning: db does not answer: retrying for up to 9 s", "db answers again"
        >>> [lines.is_news(begin, worker) for worker in "ab"]
        [True, False]
        >>> [lines.is_news(end, worker) for worker in "ab"]
        [False, True]
        """
        with self._lock:
            if is_outage_line(line):
                self._affected.add(process)
                return len(self._affected) == 1
            if is_end_of_outage_line(line):
                return self._end(process)
            return True

    def forget(self, process: str) -> None:
        """Count a process that has ended as recovered."""
        with self._lock:
            self._affected.discard(process)

    def _end(self, process: str) -> bool:
        was_affected = process in self._affected
        self._affected.discard(process)
        return was_affected and not self._affected
