"""A cache of a study's trials that is synced by reading only the changes."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, bindparam, select

from schedsearch.storage.attributes import SAMPLE_INDEX, WORKER, is_superseded
from schedsearch.storage.rows import (
    GROWING_TABLES,
    TRIAL_ROWS,
    TrialTable,
    copy_trial,
    load_trials,
    split_ids,
    utc_now,
)
from schedsearch.storage.tables import studies, trials

#: Seconds after which unfinished trials are loaded in full: other tools may change rows in place.
FULL_SYNC_INTERVAL = 30.0

_ROWS_OF_TRIALS = TRIAL_ROWS.where(trials.c.trial_id.in_(bindparam("ids", expanding=True)))
_NEW_ROWS = TRIAL_ROWS.where(
    trials.c.study_id == bindparam("study"), trials.c.trial_id > bindparam("last")
).order_by(trials.c.trial_id)


class TrialCache:
    """The cached trials of one study.

    A cached trial is replaced, never changed in place, so a list that was returned stays as it is.

    Workers lock the study while they write, so the rows of trials arrive in the order of their ids,
    and the changes since the last sync are the rows with larger ids. A trial that finishes is
    loaded in full once more.
    """

    def __init__(self, study_id: int) -> None:
        self.study_id = study_id
        #: By number, which is also the index.
        self.trials: list[FrozenTrial] = []
        #: The number of trials without their retries, and how many of these were sampled.
        self.trial_count = self.sampled_trials = 0
        #: The number of finished trials without their retries, and of the epochs they reported.
        self.finished_trials = self.finished_epochs = 0
        self._indices: dict[int, int] = {}
        self._unfinished: set[int] = set()
        self._distributions: dict[str, BaseDistribution] = {}
        self._last_rows: dict[TrialTable, int] = {}
        self._version: int | None = None
        self._full_sync = -math.inf
        self._invalid: set[int] = set()
        #: When trials were claimed here, by id: by the clock of the database in naive UTC, and by
        #: the monotonic clock of this process.
        self._claimed: dict[int, tuple[datetime, float]] = {}

    def __contains__(self, trial_id: int) -> bool:
        return trial_id in self._indices

    def __getitem__(self, trial_id: int) -> FrozenTrial:
        """Return a trial by its id; raise KeyError if it is unknown."""
        return self.trials[self._indices[trial_id]]

    @property
    def last_id(self) -> int:
        """The id of the last trial; -1 if there is none."""
        return self.trials[-1]._trial_id if self.trials else -1

    def waiting(self) -> list[FrozenTrial]:
        """Return the queued trials, by number."""
        found = (self[trial_id] for trial_id in sorted(self._unfinished))
        return [trial for trial in found if trial.state is TrialState.WAITING]

    def running_of(self, worker: str) -> list[FrozenTrial]:
        """Return the running trials of a worker, by number."""
        found = (self[trial_id] for trial_id in sorted(self._unfinished))
        return [
            trial
            for trial in found
            if trial.state is TrialState.RUNNING and trial.user_attrs.get(WORKER) == worker
        ]

    def distribution(self, name: str) -> BaseDistribution | None:
        """Return a distribution that a parameter has in some trial; None if it has none yet."""
        return self._distributions.get(name)

    def put(self, trial: FrozenTrial) -> None:
        """Add or replace a trial."""
        trial_id = trial._trial_id
        index = self._indices.get(trial_id)
        if index is None:
            self._indices[trial_id] = len(self.trials)
            self.trials.append(trial)
        else:
            self._count(self.trials[index], -1)
            self.trials[index] = trial
        self._count(trial, 1)
        if trial.state.is_finished():
            self._unfinished.discard(trial_id)
        else:
            self._unfinished.add(trial_id)
        if len(trial.distributions) > 0:
            self._distributions |= trial.distributions

    def _count(self, trial: FrozenTrial, sign: int) -> None:
        if not is_superseded(trial):
            self.trial_count += sign
            self.sampled_trials += sign * (SAMPLE_INDEX in trial.user_attrs)
            if trial.state.is_finished():
                self.finished_trials += sign
                self.finished_epochs += sign * len(trial.intermediate_values)

    def start_clocks(self, trial_ids: Iterable[int], moment: datetime) -> None:
        """Measure the duration of trials that are claimed at a moment of the database's clock."""
        self._claimed |= dict.fromkeys(trial_ids, (moment, time.monotonic()))

    def stop_clocks(self) -> None:
        """Forget the starts of trials that have ended; call this after a commit."""
        self._claimed = {i: start for i, start in self._claimed.items() if i in self._unfinished}

    def moment_in(self, trial_id: int) -> datetime:
        """Return the current time, in naive UTC, on the clock that timed the start of a trial.

        It is the start plus the time that this process has measured since: no clock of another host
        matters, nor a clock that is set during the trial.
        """
        if trial_id not in self._claimed:
            return utc_now()
        moment, started = self._claimed[trial_id]
        return moment + timedelta(seconds=time.monotonic() - started)

    def invalidate(self, trial_id: int) -> None:
        """Load an unfinished trial in full at the next sync."""
        if trial_id in self._unfinished:
            self._invalid.add(trial_id)

    def invalidate_all(self) -> None:
        """Load all unfinished trials in full at the next sync."""
        self._full_sync = -math.inf

    # --- sync ------------------------------------------------------------------------------------

    def sync(
        self,
        connection: Connection,
        *,
        version: int | None = None,
        skip: Collection[int] = (),
    ) -> None:
        """Read the changes since the last sync.

        Args:
            connection: in a transaction.
            version: the database's version of its data, if it has one; if it equals the version of
                the last sync, there are no changes.
            skip: the ids of trials that keep their cached state.

        Raises:
            KeyError: the study does not exist.
        """
        is_full = time.monotonic() - self._full_sync >= FULL_SYNC_INTERVAL
        if version is not None and version == self._version and not self._invalid and not is_full:
            return
        if not self._last_rows:
            self._begin(connection)
        invalid = self._unfinished if is_full else self._invalid
        # If this sync fails half-way, the next one is full.
        last_full_sync, self._full_sync = self._full_sync, -math.inf
        unfinished = self._load_unfinished_rows(connection)
        rows = [row for row in unfinished if row[0] in invalid or self[row[0]].state.name != row[2]]
        rows += self._load_new_rows(connection)
        skipped = {row[0] for row in rows if row[0] in skip}
        rows = [row for row in rows if row[0] not in skipped]
        for trial in load_trials(connection, rows):
            self.put(trial)
        growing = self._unfinished.difference((row[0] for row in rows), skip)
        for table in GROWING_TABLES:
            skipped |= self._load_new_parts(connection, table, growing) & set(skip)
        self._version = version
        self._invalid = skipped
        self._full_sync = time.monotonic() if is_full else last_full_sync

    def _load_unfinished_rows(self, connection: Connection) -> list[Sequence[Any]]:
        found: list[Sequence[Any]] = []
        for ids in split_ids(sorted(self._unfinished)):
            found += connection.execute(_ROWS_OF_TRIALS, {"ids": ids})
        if len(found) < len(self._unfinished):
            raise KeyError(f"study {self.study_id} was deleted")
        return found

    def _load_new_rows(self, connection: Connection) -> list[Sequence[Any]]:
        bound = {"study": self.study_id, "last": self.last_id}
        return list(connection.execute(_NEW_ROWS, bound))

    def _begin(self, connection: Connection) -> None:
        study = select(studies.c.study_id).where(studies.c.study_id == self.study_id)
        if connection.execute(study).scalar() is None:
            raise KeyError(f"there is no study {self.study_id}")
        self._last_rows = {
            table: connection.execute(table.last_row).scalar() or 0 for table in GROWING_TABLES
        }

    def _load_new_parts(
        self, connection: Connection, table: TrialTable, trial_ids: Collection[int]
    ) -> set[int]:
        """Add the new rows of a table to these trials; return the ids of the other trials."""
        changed: dict[int, FrozenTrial] = {}
        others: set[int] = set()
        for row in connection.execute(table.rows_after, {"id": self._last_rows[table]}):
            row_id, trial_id = row[0], row[1]
            self._last_rows[table] = row_id
            if trial_id in trial_ids:
                if trial_id not in changed:
                    changed[trial_id] = copy_trial(self[trial_id])
                table.add_row(changed[trial_id], row)
            else:
                others.add(trial_id)
        for trial in changed.values():
            self.put(trial)
        return others
