"""The calls of `confirm` and `explain` that are alive: others leave their queued runs in the queue.

A call has an attribute of the study of its runs, with its process and the time until which it
counts as alive, and renews it. On the host of the call, only its process counts: a call that cannot
write, since the database is locked, is alive, and one that was killed is not. On other hosts, it
counts as alive until that time.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from dataclasses import dataclass

from sqlalchemy import Connection

from schedsearch.storage import GRACE_PERIOD, StudyHandle
from schedsearch.storage.attributes import LIVE_CALL
from schedsearch.storage.clock import database_time
from schedsearch.storage.process_identity import ProcessIdentity
from schedsearch.storage.study_attributes import (
    delete_attribute,
    load_by_prefix,
    set_attribute,
)
from schedsearch.storage.tables import study_attributes

#: Seconds between two renewals.
_INTERVAL = 10.0


class LiveCall:
    """Says that a call of a command is alive, from the first renewal until it ends.

    Args:
        runs_in: the study with the runs of the call.
    """

    def __init__(self, runs_in: StudyHandle) -> None:
        self._database, self._study_id = runs_in.database, runs_in.study_id
        self._name = uuid.uuid4().hex
        self._renewed = -math.inf

    def renew(self) -> None:
        """Say that this call is alive; it writes only once in ten seconds, however often called."""
        now = time.monotonic()
        if now - self._renewed < _INTERVAL:
            return
        self._renewed = now

        def renew(connection: Connection) -> None:
            moment = database_time(connection)
            for name, life in self._lives(connection).items():
                if not life.is_alive(moment):
                    self._delete(connection, name)
            key, until = LIVE_CALL + self._name, moment + GRACE_PERIOD.total_seconds()
            text = _Life(until, ProcessIdentity.current()).to_text()
            set_attribute(connection, study_attributes, self._study_id, key, text)

        self._database.write(renew)

    def has_others(self) -> bool:
        """Return whether another call is alive."""

        def has_others(connection: Connection) -> bool:
            moment = database_time(connection)
            lives = self._lives(connection)
            return any(lives[name].is_alive(moment) for name in lives.keys() - {self._name})

        return self._database.read(has_others)

    def end(self) -> None:
        """Say that this call has ended."""
        self._database.write(lambda connection: self._delete(connection, self._name))

    def _delete(self, connection: Connection, name: str) -> None:
        delete_attribute(connection, study_attributes, self._study_id, LIVE_CALL + name)

    def _lives(self, connection: Connection) -> dict[str, _Life]:
        found = load_by_prefix(connection, study_attributes, self._study_id, LIVE_CALL)
        return {name: _Life.parse(text) for name, text in found.items()}


@dataclass(frozen=True)
class _Life:
    """The record of a call.

    Attributes:
        until: the time of the database until which it counts as alive on other hosts.
        process: its process; None if it is not known.
    """

    until: float
    process: ProcessIdentity | None

    def to_text(self) -> str:
        process = None if self.process is None else self.process.to_text()
        return json.dumps({"until": self.until, "process": process})

    @classmethod
    def parse(cls, text: str) -> _Life:
        """Return a record from its text: strangers may have written anything."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        table = found if isinstance(found, dict) else {"until": found}
        until, process = table.get("until"), table.get("process")
        return cls(
            until if isinstance(until, float) else -math.inf,
            ProcessIdentity.parse(process) if isinstance(process, str) else None,
        )

    def is_alive(self, moment: float) -> bool:
        lives = None if self.process is None else self.process.is_alive()
        if lives is not None:
            return lives
        # No call writes a later time, which would count for too long.
        return moment < self.until <= moment + GRACE_PERIOD.total_seconds()
