"""The running trials of a study, with the signs of life of their workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, String, select, type_coerce

from schedsearch.printable import printable_line
from schedsearch.storage.attributes import WORKER, WORKER_PROCESS
from schedsearch.storage.process_identity import ProcessIdentity
from schedsearch.storage.study_attributes import load_by_prefix
from schedsearch.storage.tables import (
    heartbeats,
    study_system_attributes,
    trials,
    user_attributes,
)

#: As text: a value of another program must not raise an error.
HEARTBEAT = type_coerce(heartbeats.c.heartbeat, String)


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

    def has_suspended_process(self) -> bool:
        """Return whether the process of the worker is on this host and suspended."""
        found = ProcessIdentity.parse(self.process)
        return found is not None and found.is_suspended()


def load_running_trials(connection: Connection, study_id: int) -> dict[int, RunningTrial]:
    """Return the running trials of a study by id."""
    worker = user_attributes.alias()
    query = (
        select(
            trials.c.trial_id,
            trials.c.number,
            HEARTBEAT,
            worker.c.value_json,
        )
        .join_from(trials, heartbeats, trials.c.trial_id == heartbeats.c.trial_id, isouter=True)
        .join(
            worker,
            (worker.c.trial_id == trials.c.trial_id) & (worker.c.key == WORKER),
            isouter=True,
        )
        .where(trials.c.study_id == study_id, trials.c.state == "RUNNING")
        .order_by(trials.c.trial_id)
    )
    rows = list(connection.execute(query))
    processes: Mapping[str, str] = {}
    if rows:
        table = study_system_attributes
        processes = load_by_prefix(connection, table, study_id, WORKER_PROCESS)
    found = {}
    for trial_id, number, heartbeat, text in rows:
        name = _name(text)
        process = None if name is None else processes.get(name)
        found[trial_id] = RunningTrial(number, parse_heartbeat(heartbeat), name, process)
    return found


def live_processes(seen: Mapping[int, RunningTrial]) -> dict[int, bool | None]:
    """Return whether the process of each trial's worker lives, and look at each process once."""
    by_process = {trial.process: trial for trial in seen.values()}
    lives = {process: trial.has_live_process() for process, trial in by_process.items()}
    return {i: lives[trial.process] for i, trial in seen.items()}


def _name(text: str | None) -> str | None:
    """Return the name of a worker from its attribute; a stranger may write anything."""
    try:
        name = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    return name if isinstance(name, str) else None


def parse_heartbeat(value: object) -> datetime | None:
    """Return a heartbeat as a naive time; None if it is missing or not a time."""
    if not isinstance(value, str | datetime):
        return None
    try:
        # SQLite returns text.
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return found.replace(tzinfo=None)
