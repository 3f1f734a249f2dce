"""Signs of life: heartbeats, the processes of workers, and which running trials are lost."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    Connection,
    String,
    Update,
    delete,
    func,
    insert,
    select,
    type_coerce,
    update,
)

from schedsearch.printable import printable_line
from schedsearch.storage.attributes import WORKER, WORKER_PROCESS
from schedsearch.storage.clock import database_now
from schedsearch.storage.database import Database
from schedsearch.storage.process_identity import ProcessIdentity
from schedsearch.storage.stale_trials import StaleTrialDetector
from schedsearch.storage.tables import (
    heartbeats,
    study_system_attributes,
    trials,
    user_attributes,
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


@dataclass(frozen=True)
class RunningTrial:
    """A running trial, as another process sees it.

    Attributes:
        number: the trial's number.
        heartbeat: the time of its last heartbeat, as the database stores it; None: it has none.
        worker: the name of its worker; None if the trial was not claimed by a worker.
        process: the process of the worker as text; None if it is not known.
    """

    number: int
    heartbeat: datetime | None
    worker: str | None
    process: str | None

    @property
    def host(self) -> str | None:
        """The host of the worker; None if it is not known."""
        found = ProcessIdentity.parse(self.process)
        return None if found is None else found.host

    def __str__(self) -> str:
        worker = "" if self.worker is None else f" of worker {printable_line(self.worker)}"
        host = "" if self.host is None else f" on host {printable_line(self.host)}"
        return f"trial {self.number}{worker}{host}"

    def has_live_process(self) -> bool | None:
        """Return whether the process of the worker lives; None if that cannot be seen from here."""
        found = ProcessIdentity.parse(self.process)
        return None if found is None else found.is_alive()


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
        #: The trials that `waiting_message` named; None stands for trials of live workers.
        self._announced: set[int | None] = set()

    # --- signs of life of this process -----------------------------------------------------------

    def register(self, worker: str) -> None:
        """Record that this process is a worker; it must do so before it claims trials."""
        process = ProcessIdentity.current()
        if process is None:
            return
        row = {
            "study_id": self._study_id,
            "key": WORKER_PROCESS + worker,
            "value_json": process.to_text(),
        }

        def register(connection: Connection) -> None:
            self.unregister(connection, worker)
            connection.execute(insert(study_system_attributes), row)

        self._database.write(register)

    def unregister(self, connection: Connection, worker: str | None) -> None:
        """Remove the record of a worker that has no running trial any more."""
        attributes = study_system_attributes.c
        own = attributes.study_id == self._study_id, attributes.key == f"{WORKER_PROCESS}{worker}"
        connection.execute(delete(study_system_attributes).where(*own))

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
        return self._database.read(self.load)

    def load(self, connection: Connection) -> dict[int, RunningTrial]:
        """Return the running trials by id."""
        worker = user_attributes.alias()
        query = (
            select(
                trials.c.trial_id,
                trials.c.number,
                # As text: a value of another program must not raise an error.
                type_coerce(heartbeats.c.heartbeat, String),
                worker.c.value_json,
            )
            .join_from(trials, heartbeats, trials.c.trial_id == heartbeats.c.trial_id, isouter=True)
            .join(
                worker,
                (worker.c.trial_id == trials.c.trial_id) & (worker.c.key == WORKER),
                isouter=True,
            )
            .where(trials.c.study_id == self._study_id, trials.c.state == "RUNNING")
            .order_by(trials.c.trial_id)
        )
        rows = list(connection.execute(query))
        processes = self._load_processes(connection) if rows else {}
        found = {}
        for trial_id, number, heartbeat, text in rows:
            name = _name(text)
            process = None if name is None else processes.get(name)
            found[trial_id] = RunningTrial(number, _parse_heartbeat(heartbeat), name, process)
        return found

    def _load_processes(self, connection: Connection) -> dict[str, str]:
        attributes = study_system_attributes.c
        query = select(attributes.key, attributes.value_json).where(
            attributes.study_id == self._study_id,
            attributes.key.startswith(WORKER_PROCESS, autoescape=True),
        )
        return {key.removeprefix(WORKER_PROCESS): text for key, text in connection.execute(query)}

    def training_ends(self) -> dict[int, datetime]:
        """Return until when the running trials have trained: now, or until the last heartbeat.

        Returns:
            Times of the database's clock by trial id, in naive UTC.
        """
        seen, now = self._database.read(lambda c: (self.load(c), database_now(c)))
        return {
            i: now if trial.heartbeat is None or now - trial.heartbeat < _FRESH else trial.heartbeat
            for i, trial in seen.items()
        }

    def find_lost(self, grace_period: timedelta) -> dict[int, RunningTrial]:
        """Return the running trials whose worker has ended, or is silent for the grace period.

        A worker on this host has ended when its process has. Another worker is silent if no new
        heartbeat was seen for the grace period, in which this process could write all the time:
        see StaleTrialDetector. Call this every few seconds.
        """
        seen, grace = self.running(), grace_period.total_seconds()
        self._first_heartbeats = {
            i: self._first_heartbeats.get(i, trial.heartbeat) for i, trial in seen.items()
        }
        ended = {i for i, trial in seen.items() if trial.has_live_process() is False}
        judged = {i: trial.heartbeat for i, trial in seen.items() if i not in ended}
        stale: Collection[int] = ()
        if judged and self._detector.is_due(_SHORTEST_INTERVAL * grace):
            silent = self._detector.silent(judged) or list(judged)[:1]
            if self._can_write(silent):
                stale = self._detector.update(judged, grace)
        return {i: seen[i] for i in (*ended, *stale)}

    def waiting_message(self, seconds: float) -> str | None:
        """Say which trials of other workers this process waits for; None if that was said before.

        Args:
            seconds: how long it waits at most for a worker that gives no sign of life.
        """
        seen = self.running()
        unknown = [
            i
            for i, trial in seen.items()
            if trial.has_live_process() is None
            and trial.heartbeat == self._first_heartbeats.get(i, trial.heartbeat)
        ]
        named: set[int | None] = {*unknown} if unknown else {None}
        new = named - self._announced
        self._announced |= new
        if not (seen and new):
            return None
        if not unknown:
            return f"waiting for {len(seen)} trial(s) of other workers"
        more = "" if len(unknown) == 1 else f" (and for {len(unknown) - 1} other trials)"
        first = f"{seen[unknown[0]]}, which may still be alive"
        return f"waiting up to {math.ceil(seconds)} s for {first}{more}"

    def count_alive(
        self, grace_period: timedelta = GRACE_PERIOD, observation: timedelta = OBSERVATION
    ) -> int:
        """Count the running trials whose worker is alive.

        It is alive if its process on this host is, or if its last heartbeat is recent by the clock
        of the database. If there is no such trial, this waits for a heartbeat of the others.

        Args:
            grace_period: a heartbeat is recent if it is younger.
            observation: how long to wait for a heartbeat.
        """
        seen, now = self._database.read(lambda c: (self.load(c), database_now(c)))
        lives = {i: trial.has_live_process() for i, trial in seen.items()}
        alive = [
            i
            for i, trial in seen.items()
            if lives[i] or (lives[i] is None and _is_recent(trial.heartbeat, now - grace_period))
        ]
        unknown = [i for i in seen if lives[i] is None and seen[i].heartbeat is not None]
        return len(alive) if alive or not unknown else self._observe(unknown, observation)

    def _observe(self, trial_ids: Sequence[int], observation: timedelta) -> int:
        """Wait for new heartbeats of these trials, as long as this process can write; count them.

        Time in which it cannot write does not count.
        """
        before, end = self.running(), -math.inf
        while time.monotonic() < end or math.isinf(end):
            if math.isinf(end) or not self._can_write(trial_ids):
                self._database.write(lambda connection: connection.execute(_touch(trial_ids)))
                end = time.monotonic() + observation.total_seconds()
            current = self.running()
            if beating := [i for i in trial_ids if i in current and current[i] != before.get(i)]:
                return len(beating)
            time.sleep(min(_POLL, observation.total_seconds()))
        return 0


def _touch(trial_ids: Iterable[int]) -> Update:
    """Return a statement that writes to the heartbeats of trials, and leaves them as they are."""
    chosen = heartbeats.c.trial_id.in_(sorted(trial_ids))
    return update(heartbeats).where(chosen).values(heartbeat=heartbeats.c.heartbeat)


def _name(text: str | None) -> str | None:
    """Return the name of a worker from its attribute; a stranger may write anything."""
    try:
        name = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    return name if isinstance(name, str) else None


def _parse_heartbeat(value: object) -> datetime | None:
    """Return a heartbeat as a naive time; None if it is missing or not a time."""
    if not isinstance(value, str | datetime):
        return None
    try:
        # SQLite returns text.
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return found.replace(tzinfo=None)


def _is_recent(heartbeat: datetime | None, earliest: datetime) -> bool:
    return heartbeat is not None and heartbeat > earliest
