"""The calls of `confirm` that are alive: other calls leave their queued runs in the queue.

A call has an attribute of the confirmation's study with the time until which it counts as alive,
and renews it. A call that was killed counts as alive until that time.
"""

from __future__ import annotations

import json
import math
import time
import uuid

from sqlalchemy import Connection, delete, insert, select

from schedsearch.storage import GRACE_PERIOD, StudyHandle
from schedsearch.storage.attributes import LIVE_CALL
from schedsearch.storage.clock import database_time
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
        self._key = f"{LIVE_CALL}{uuid.uuid4().hex}"
        self._renewed = -math.inf

    def renew(self) -> None:
        """Say that this call is alive; it writes only once in ten seconds, however often called."""
        now = time.monotonic()
        if now - self._renewed < _INTERVAL:
            return
        self._renewed = now

        def renew(connection: Connection) -> None:
            moment = database_time(connection)
            ended = _times(connection, self._study_id)
            ended = {key: until for key, until in ended.items() if not _is_alive(until, moment)}
            for key in (self._key, *ended):
                self._delete(connection, key)
            until = moment + GRACE_PERIOD.total_seconds()
            row = {"study_id": self._study_id, "key": self._key, "value_json": json.dumps(until)}
            connection.execute(insert(study_attributes), row)

        self._database.write(renew)

    def has_others(self) -> bool:
        """Return whether another call is alive."""

        def has_others(connection: Connection) -> bool:
            moment = database_time(connection)
            times = _times(connection, self._study_id)
            return any(_is_alive(times[key], moment) for key in times.keys() - {self._key})

        return self._database.read(has_others)

    def end(self) -> None:
        """Say that this call has ended."""
        self._database.write(lambda connection: self._delete(connection, self._key))

    def _delete(self, connection: Connection, key: str) -> None:
        of_study = study_attributes.c.study_id == self._study_id
        connection.execute(delete(study_attributes).where(of_study, study_attributes.c.key == key))


def _times(connection: Connection, study_id: int) -> dict[str, object]:
    """Return until when each call counts as alive; strangers may have written anything."""
    rows = connection.execute(
        select(study_attributes.c.key, study_attributes.c.value_json).where(
            study_attributes.c.study_id == study_id,
            study_attributes.c.key.startswith(LIVE_CALL, autoescape=True),
        )
    )
    return {row.key: _parse(row.value_json) for row in rows}


def _parse(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_alive(until: object, moment: float) -> bool:
    # No call writes a later time, which would count for too long.
    latest = moment + GRACE_PERIOD.total_seconds()
    return isinstance(until, float) and moment < until <= latest
