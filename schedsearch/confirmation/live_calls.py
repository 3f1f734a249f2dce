"""The calls of `confirm` that are alive: other calls leave their queued runs in the queue.

A call has an attribute of the confirmation's study with the time until which it counts as alive,
and renews it. A call that was killed counts as alive until that time.
"""

from __future__ import annotations

import json
import math
import time
import uuid

from sqlalchemy import Connection

from schedsearch.storage import GRACE_PERIOD, StudyHandle
from schedsearch.storage.attributes import LIVE_CALL
from schedsearch.storage.clock import database_time
from schedsearch.storage.study_attributes import (
    delete_attribute,
    load_by_prefix,
    set_attribute,
)
from schedsearch.storage.tables import study_attributes

#: Seconds between two renewals.
_INTERVAL = 10.0


class LiveCall:
    """Says that a call of `confirm` is alive, from the first renewal until it ends.

    Args:
        confirmation: the study with the runs of the call.
    """

    def __init__(self, confirmation: StudyHandle) -> None:
        self._database, self._study_id = confirmation.database, confirmation.study_id
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
            for name, until in self._times(connection).items():
                if not _is_alive(until, moment):
                    self._delete(connection, name)
            key, until = LIVE_CALL + self._name, moment + GRACE_PERIOD.total_seconds()
            set_attribute(connection, study_attributes, self._study_id, key, json.dumps(until))

        self._database.write(renew)

    def has_others(self) -> bool:
        """Return whether another call is alive."""

        def has_others(connection: Connection) -> bool:
            moment = database_time(connection)
            times = self._times(connection)
            return any(_is_alive(times[name], moment) for name in times.keys() - {self._name})

        return self._database.read(has_others)

    def end(self) -> None:
        """Say that this call has ended."""
        self._database.write(lambda connection: self._delete(connection, self._name))

    def _delete(self, connection: Connection, name: str) -> None:
        delete_attribute(connection, study_attributes, self._study_id, LIVE_CALL + name)

    def _times(self, connection: Connection) -> dict[str, object]:
        """Return until when each call counts as alive; strangers may have written anything."""
        found = load_by_prefix(connection, study_attributes, self._study_id, LIVE_CALL)
        return {name: _parse(text) for name, text in found.items()}


def _parse(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_alive(until: object, moment: float) -> bool:
    # No call writes a later time, which would count for too long.
    latest = moment + GRACE_PERIOD.total_seconds()
    return isinstance(until, float) and moment < until <= latest
