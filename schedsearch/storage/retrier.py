"""Databases that are away for a while: whoever needs one waits for it, and says so once."""

from __future__ import annotations

import logging
import math
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from schedsearch.errors import DatabaseUnavailableError

#: Seconds that a database may be away before who needs it gives up.
PATIENCE = 600.0
#: Seconds between two tries: at first, and at most.
_FIRST, _LONGEST = 0.2, 5.0
#: Seconds, in all, for which who was told to stop still waits.
_LAST = 3.0
#: Seconds of waiting that nobody is told of: a connection that was cut is soon replaced.
_UNTOLD = 1.0

#: PostgreSQL's classes of what passes: connection, rollback, object in use, operator's doing;
#: and, of the class of resources, too many connections.
_PASSING_STATES = ("08", "40", "55", "57", "53300")
#: MySQL's: too many connections, shutdown, lock timeout, deadlock, a connection that was killed.
#: Those of the client itself, from 2000 on, tell of a connection that does not come or is lost.
_PASSING_CODES = frozenset({0, 1040, 1053, 1205, 1213, 1317, 1927, *range(2000, 3000)})
#: SQLite's, without what it calls extended: somebody else holds the file's lock.
_PASSING_FILE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

_log = logging.getLogger(__name__)
_Found = TypeVar("_Found")


class Retrier:
    """The outages of one database, as far as this process noticed them.

    Args:
        shown: names the database for people.
        patience: seconds that it may be away.
    """

    def __init__(self, shown: str, patience: float = PATIENCE) -> None:
        self._shown, self._patience = shown, patience
        # A generator of its own: the global one may belong to a training that is to be repeated.
        self._random = random.Random()
        self._lock = threading.Lock()
        self._told = False
        self._told_to_stop: Callable[[], bool] = lambda: False
        self._stopping_since = math.inf

    def stop_waiting_when(self, told_to_stop: Callable[[], bool]) -> None:
        """Wait no longer, but for a few seconds, once this is true."""
        self._told_to_stop = told_to_stop

    def retry(self, work: Callable[[], _Found]) -> _Found:
        """Do some work, and do it anew as long as the database is away, or for PATIENCE seconds.

        The work must bear to be done again where it is not known whether it was committed.

        Raises:
            DBAPIError, StorageInternalError: what waiting does not mend, or not in time.
            DatabaseUnavailableError: told to stop while the database is away.
        """
        began, pause = time.monotonic(), _FIRST
        while True:
            try:
                found = work()
            except (DBAPIError, StorageInternalError) as error:
                waited = time.monotonic() - began
                if not is_transient(error) or waited > self._patience:
                    raise
                if self._is_over():
                    raise DatabaseUnavailableError(
                        f"{self._shown} does not answer ({reason(error)}): stopped without it; "
                        "what was in training is queued anew after two minutes of silence"
                    ) from None
                if waited > _UNTOLD:
                    self._tell(error)
            else:
                self._tell_end()
                return found
            time.sleep(pause * self._random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST)

    def _is_over(self) -> bool:
        """Tell whether who waits was told to stop, and has had the last seconds."""
        if not self._told_to_stop():
            return False
        moment = time.monotonic()
        self._stopping_since = min(self._stopping_since, moment)
        return moment - self._stopping_since > _LAST

    def _tell(self, error: BaseException) -> None:
        with self._lock:
            if not self._told:
                self._told = True
                _log.warning(
                    "warning: %s does not answer: waiting up to %g s for it (%s)",
                    self._shown,
                    self._patience,
                    reason(error),
                )

    def _tell_end(self) -> None:
        with self._lock:
            if self._told:
                self._told = False
                _log.warning("%s answers again", self._shown)


def is_transient(error: BaseException) -> bool:
    """Tell whether an error may be gone soon: the database is away, or others are in the way."""
    found = error.__cause__ if isinstance(error, StorageInternalError) else error
    if not isinstance(found, DBAPIError):
        return False
    if found.connection_invalidated:
        return True
    if not isinstance(found, OperationalError | InterfaceError):
        return False
    driver: Any = found.orig
    kind = type(driver).__module__.partition(".")[0]
    if kind == "psycopg":
        return driver.sqlstate is None or driver.sqlstate.startswith(_PASSING_STATES)
    if kind == "sqlite3":
        return driver.sqlite_errorcode & 0xFF in _PASSING_FILE
    return kind == "pymysql" and bool(driver.args) and driver.args[0] in _PASSING_CODES


def reason(error: BaseException, password: str | None = None) -> str:
    """Return the first line of the driver's own words, without the URL's password."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    said = cause.args[1] if len(cause.args) == 2 and isinstance(cause.args[0], int) else cause
    text = next(iter(str(said).strip().splitlines()), type(cause).__name__)
    return text.replace(password, "***") if password else text
