"""Retries with exponential backoff while a database is unavailable."""

from __future__ import annotations

import logging
import math
import random
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from schedsearch.errors import DatabaseUnavailableError

#: Seconds of retries after which the error is raised.
TIMEOUT = 600.0
#: Seconds between two attempts: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
#: Seconds of retries after the user asked to stop.
_TIMEOUT_WHEN_STOPPING = 3.0
#: Seconds of retries without a warning: a lost connection is usually replaced within them.
_QUIET_SECONDS = 1.0

#: PostgreSQL's error classes: connection, transaction rollback, object in use, operator
#: intervention; and the error for too many connections.
_TRANSIENT_STATES = ("08", "40", "55", "57", "53300")
#: MySQL's error codes: too many connections, shutdown, lock timeout, deadlock, killed connection;
#: and, from 2000 on, the client's errors about a refused or lost connection.
_TRANSIENT_CODES = frozenset({0, 1040, 1053, 1205, 1213, 1317, 1927, *range(2000, 3000)})
#: SQLite's primary error codes for a file that another connection has locked.
_TRANSIENT_FILE_CODES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

_OUTAGE, _END_OF_OUTAGE = "does not answer: retrying", "answers again"

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Retrier:
    """Retries work on one database after transient errors.

    It logs one warning when an outage begins, and one line when it ends.

    Args:
        name: names the database in messages, without a password.
        timeout: seconds of retries after which the error is raised.
    """

    def __init__(self, name: str, timeout: float = TIMEOUT) -> None:
        self._name, self._timeout = name, timeout
        # Not the global generator, which a training may need in a reproducible state.
        self._random = random.Random()
        self._lock = threading.Lock()
        self._has_warned = False
        self._say: Callable[[str], None] = _log.warning
        self._should_stop: Callable[[], bool] = lambda: False
        self._stopping_since = math.inf

    def stop_waiting_when(self, should_stop: Callable[[], bool]) -> None:
        """Stop retrying a few seconds after `should_stop` returns true."""
        self._should_stop = should_stop

    def report_to(self, say: Callable[[str], None]) -> None:
        """Pass the lines about outages to a function, not to the log."""
        self._say = say

    def retry(self, work: Callable[[], _Result]) -> _Result:
        """Call `work`, again after each transient error, and return its result.

        `work` must be idempotent: it is retried even if an earlier attempt may have committed.
        It must not retry by itself.

        Raises:
            DBAPIError, StorageInternalError: the error is not transient, or the timeout is over.
            DatabaseUnavailableError: the user asked to stop while the database is unavailable.
        """
        start, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                result = work()
            except (DBAPIError, StorageInternalError) as error:
                waited = time.monotonic() - start
                if not is_transient(error) or waited > self._timeout:
                    raise
                if self._is_stop_overdue():
                    raise DatabaseUnavailableError(
                        f"{self._name} does not answer ({driver_message(error)}): stopped, but the "
                        "trials in training could not be requeued; other workers requeue them "
                        "after two minutes without a heartbeat, or at once on this host"
                    ) from None
                if waited > _QUIET_SECONDS:
                    self._warn(error)
            else:
                self._report_end()
                return result
            time.sleep(pause * self._random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _is_stop_overdue(self) -> bool:
        """Return whether the user asked to stop, and the time for last attempts is over."""
        if not self._should_stop():
            return False
        now = time.monotonic()
        self._stopping_since = min(self._stopping_since, now)
        return now - self._stopping_since > _TIMEOUT_WHEN_STOPPING

    def _warn(self, error: BaseException) -> None:
        with self._lock:
            if not self._has_warned:
                self._has_warned = True
                self._say(
                    f"warning: {self._name} {_OUTAGE} for up to {self._timeout:g} s "
                    f"({driver_message(error)})"
                )

    def _report_end(self) -> None:
        with self._lock:
            if self._has_warned:
                self._has_warned = False
                self._say(f"{self._name} {_END_OF_OUTAGE}")


def is_outage_line(line: str) -> bool:
    """Return whether a line reports that an outage began."""
    return line.startswith("warning: ") and f" {_OUTAGE} " in line


def is_end_of_outage_line(line: str) -> bool:
    """Return whether a line reports that an outage is over."""
    return line.endswith(f" {_END_OF_OUTAGE}")


def is_transient(error: BaseException) -> bool:
    """Return whether a retry may succeed: the database is unavailable, or another has a lock."""
    found = error.__cause__ if isinstance(error, StorageInternalError) else error
    if not isinstance(found, DBAPIError):
        return False
    if found.connection_invalidated:
        return True
    if not isinstance(found, OperationalError | InterfaceError):
        return False
    driver_error: Any = found.orig
    driver = type(driver_error).__module__.partition(".")[0]
    if driver == "psycopg":
        state = driver_error.sqlstate
        return state is None or state.startswith(_TRANSIENT_STATES)
    if driver == "sqlite3":
        return driver_error.sqlite_errorcode & 0xFF in _TRANSIENT_FILE_CODES
    return (
        driver == "pymysql" and bool(driver_error.args) and driver_error.args[0] in _TRANSIENT_CODES
    )


def driver_message(error: BaseException, password: str | None = None) -> str:
    """Return the first line of the driver's message.

    The password is replaced by *** where it stands alone: a short one is part of other words too.

    >>> driver_message(ValueError("postgresql://ann:p@db cannot be opened: p is wrong"), "p")
    'postgresql://ann:***@db cannot be opened: *** is wrong'
    """
    cause = getattr(error, "orig", None) or error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    has_code = len(cause.args) == 2 and isinstance(cause.args[0], int)
    message = str(cause.args[1] if has_code else cause).strip()
    text = next(iter(message.splitlines()), type(cause).__name__)
    return re.sub(rf"(?<!\w){re.escape(password)}(?!\w)", "***", text) if password else text
