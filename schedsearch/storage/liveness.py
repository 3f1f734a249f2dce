"""Signs of life: heartbeats, the processes of workers, and which running trials are lost."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, Update, func, select, update

from schedsearch.printable import count_of
from schedsearch.storage.attributes import WORKER_PROCESS
from schedsearch.storage.clock import database_now
from schedsearch.storage.database import Database
from schedsearch.storage.process_identity import ProcessIdentity
from schedsearch.storage.running_trials import (
    HEARTBEAT,
    RunningTrial,
    live_processes,
    load_running_trials,
    parse_heartbeat,
)
from schedsearch.storage.stale_trials import StaleTrialDetector
from schedsearch.storage.study_attributes import (
    delete_attribute,
    set_attribute,
)
from schedsearch.storage.tables import (
    heartbeats,
    study_system_attributes,
)

#: A trial without a new heartbeat for this long is stale.
GRACE_PERIOD = timedelta(seconds=120)
#: How long to wait for a heartbeat before a worker that was silent for longer counts as dead: two
#: intervals between heartbeats, or one and the longest pause of a retry.
OBSERVATION = timedelta(seconds=20)
#: A worker with a heartbeat that is not older trains.
_FRESH = timedelta(seconds=15)
#: Seconds between two looks at silent trials during that time.
_POLL = 0.5
#: Two searches for stale trials are at least this share of the grace period apart.
_SHORTEST_INTERVAL = 1 / 20
#: A wait for heartbeats that locks interrupt ends after so many times its length.
_LONGEST_OBSERVATION = 6


class Liveness:
    """The signs of life of the workers of one study.

    Reading says nothing about a silent worker: while it cannot write, for example because another
    program has locked the table of heartbeats, this process may still read. So this process counts
    the silence of others only from moments at which it could write to the same table itself.
    """

    def __init__(self, database: Database, study_id: int) -> None:
        self._database, self._study_id = database, study_id
        self._detector = StaleTrialDetector()
        self._first_heartbeats: dict[int, datetime | None] = {}
        #: The running trials that `find_lost` saw last, and whether their processes live.
        self._seen: dict[int, tuple[RunningTrial, bool | None]] = {}
        #: The trials that `waiting_message` named; None stands for trials of live workers.
        self._announced: set[int | None] = set()

    # --- signs of life of this process -----------------------------------------------------------

    def register(self, worker: str) -> None:
        """Record that this process is a worker; it must do so before it claims trials."""
        process = ProcessIdentity.current()
        if process is None:
            return
        key, text = WORKER_PROCESS + worker, process.to_text()
        self._database.write(
            lambda c: set_attribute(c, study_system_attributes, self._study_id, key, text)
        )

    def unregister(self, connection: Connection, worker: str | None) -> None:
        """Remove the record of a worker that has ended."""
        key = f"{WORKER_PROCESS}{worker}"
        delete_attribute(connection, study_system_attributes, self._study_id, key)

    def record(self, trial_ids: Sequence[int]) -> None:
        """Record that the workers of these trials are alive."""
        mine = heartbeats.c.trial_id.in_(trial_ids)
        alive = update(heartbeats).where(mine).values(heartbeat=func.current_timestamp())
        self._database.write(lambda connection: connection.execute(alive))

    def _can_write(self, trial_ids: Iterable[int]) -> bool:
        """Write to the heartbeats of trials without changing them; return whether it worked."""
        return self._database.try_write(lambda connection: connection.execute(_touch(trial_ids)))

    # --- signs of life of others -----------------------------------------------------------------

    def running(self) -> dict[int, RunningTrial]:
        """Return the running trials by id."""
        return self._database.read(lambda c: load_running_trials(c, self._study_id))

    def training_ends(self, trial_ids: Sequence[int]) -> dict[int, datetime]:
        """Return until when running trials have trained: now, or until the last heartbeat.

        Returns:
            Times of the database's clock for all these trials, in naive UTC.
        """
        chosen = heartbeats.c.trial_id.in_(trial_ids)
        query = select(heartbeats.c.trial_id, HEARTBEAT).where(chosen)

        def read(connection: Connection) -> tuple[dict[int, datetime | None], datetime]:
            rows = connection.execute(query)
            return {i: parse_heartbeat(value) for i, value in rows}, database_now(connection)

        beats, now = self._database.read(read)
        ends = dict.fromkeys(trial_ids, now)
        return ends | {i: beat for i, beat in beats.items() if beat and now - beat >= _FRESH}

    def find_lost(self, grace_period: timedelta) -> dict[int, RunningTrial]:
        """Return the running trials whose worker has ended, or is silent for the grace period.

        A worker on this host has ended when its process has. Any other worker, also one whose
        process lives, is silent if no new heartbeat was seen for the grace period, in which this
        process could write all the time: see StaleTrialDetector. Call this every few seconds.
        """
        seen, grace = self.running(), grace_period.total_seconds()
        lives = live_processes(seen)
        self._first_heartbeats = {
            i: self._first_heartbeats.get(i, trial.heartbeat) for i, trial in seen.items()
        }
        self._seen = {i: (trial, lives[i]) for i, trial in seen.items()}
        ended = {i for i in seen if lives[i] is False}
        judged = {i: trial.heartbeat for i, trial in seen.items() if i not in ended}
        stale: Collection[int] = ()
        if judged and self._detector.is_due(_SHORTEST_INTERVAL * grace):
            silent = self._detector.silent(judged) or list(judged)[:1]
            if self._can_write(silent):
                stale = self._detector.update(judged, grace)
        return {i: seen[i] for i in (*ended, *stale)}

    def waiting_message(self, seconds: float) -> str | None:
        """Say which trials of other workers this process waits for; None if that was said before.

        The trials are those that the last `find_lost` saw.

        Args:
            seconds: how long it waits at most for a worker that gives no sign of life.
        """
        seen, first = self._seen, self._first_heartbeats
        unknown = [
            i
            for i, (trial, lives) in seen.items()
            if lives is None and trial.heartbeat == first.get(i, trial.heartbeat)
        ]
        named: set[int | None] = {*unknown} if unknown else {None}
        new = named - self._announced
        self._announced |= new
        if not (seen and new):
            return None
        if not unknown:
            return f"waiting for {count_of(len(seen), 'trial')} of other workers"
        more = "" if len(unknown) == 1 else f" (and for {len(unknown) - 1} other trials)"
        first_trial, _ = seen[unknown[0]]
        may_live = f"{first_trial}, which may still be alive"
        return f"waiting up to {math.ceil(seconds)} s for {may_live}{more}"

    def count_alive(
        self, grace_period: timedelta = GRACE_PERIOD, observation: timedelta = OBSERVATION
    ) -> int:
        """Count the running trials whose worker is alive.

        It is alive if its last heartbeat is recent by the clock of the database, unless its process
        on this host has ended, or if that process is suspended. If there is no such trial, this
        waits for a heartbeat of the others. A process that lives proves nothing alone: if this is a
        copy of a database, the worker writes to the original.

        Args:
            grace_period: a heartbeat is recent if it is younger.
            observation: how long to wait for a heartbeat.
        """
        seen, now = self._database.read(
            lambda c: (load_running_trials(c, self._study_id), database_now(c))
        )
        lives = live_processes(seen)
        candidates = {
            i: trial.heartbeat
            for i, trial in seen.items()
            if lives[i] is not False and (lives[i] or trial.heartbeat is not None)
        }
        alive = [
            i
            for i, heartbeat in candidates.items()
            if _is_recent(heartbeat, now - grace_period) or seen[i].has_suspended_process()
        ]
        return len(alive) if alive or not candidates else self._observe(candidates, observation)

    def _observe(self, before: Mapping[int, datetime | None], observation: timedelta) -> int:
        """Wait for new heartbeats of trials, as long as this process can write; count them.

        Time in which it cannot write does not count. If that takes too long, all count as alive.

        Args:
            before: the heartbeats up to now.
            observation: how long to wait for others.
        """
        seconds, began = observation.total_seconds(), time.monotonic()
        self._database.write(lambda connection: connection.execute(_touch(before)))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(min(_POLL, seconds))
            current = self.running()
            if beating := [i for i in before if i in current and current[i].heartbeat != before[i]]:
                return len(beating)
            if time.monotonic() - began > _LONGEST_OBSERVATION * seconds:
                return len(before)
            if not self._can_write(before):
                self._database.write(lambda connection: connection.execute(_touch(before)))
                end = time.monotonic() + seconds
        return 0


def _touch(trial_ids: Iterable[int]) -> Update:
    """Return a statement that writes to the heartbeats of trials, and leaves them as they are."""
    chosen = heartbeats.c.trial_id.in_(sorted(trial_ids))
    return update(heartbeats).where(chosen).values(heartbeat=heartbeats.c.heartbeat)


def _is_recent(heartbeat: datetime | None, earliest: datetime) -> bool:
    return heartbeat is not None and heartbeat > earliest
