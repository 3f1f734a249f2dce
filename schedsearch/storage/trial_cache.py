"""A cache of a study's trials that is synced by reading only the changes."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, bindparam

from schedsearch.storage.clock import DatabaseClock
from schedsearch.storage.rows import (
    EVERYTHING,
    GROWING_TABLES,
    TRIAL_ROWS,
    Observed,
    TrialTable,
    copy_trial,
    load_trials,
    rows_after,
    split_ids,
    utc_now,
)
from schedsearch.storage.study_attributes import require_study
from schedsearch.storage.tables import parameters, trials

#: Seconds after which unfinished trials are loaded in full: other tools may change rows in place.
FULL_SYNC_INTERVAL = 30.0

_ROWS_OF_TRIALS = TRIAL_ROWS.where(trials.c.trial_id.in_(bindparam("ids", expanding=True)))
_NEW_ROWS = TRIAL_ROWS.where(
    trials.c.study_id == bindparam("study"), trials.c.trial_id > bindparam("last")
).order_by(trials.c.trial_id)


class TrialCache:
    """The cached trials of one study.

    A cached trial is replaced, never changed in place, so a list that was returned stays as it is.

    Writers that append to a trial do not lock the study, so transactions may commit in another
    order than that of the ids of their rows, and one mark for a whole table would miss rows. But
    each trial has one writer, its worker, whose transactions follow one another: the rows of one
    trial become visible in the order of their ids. So there is one mark for each running trial and
    table, and a row that is read twice changes nothing. Rows of trials themselves are inserted
    under the lock of the study, in the order of their ids. A trial that finishes is loaded once
    more: its state is written in the last transaction of its worker.

    Args:
        study_id: the study.
        observed: the parts of trials that the reader uses. Of trials that it has claimed itself,
            the cache has all parts until they finish.
    """

    def __init__(self, study_id: int, observed: Observed = EVERYTHING) -> None:
        self.study_id = study_id
        #: By number, which is also the index.
        self.trials: list[FrozenTrial] = []
        #: Whether the next reader syncs the cache first.
        self.is_expired = True
        self._observed = observed
        self._indices: dict[int, int] = {}
        #: Trials that were claimed here after the last sync.
        self._ahead: dict[int, FrozenTrial] = {}
        self._unfinished: set[int] = set()
        self._distributions: dict[str, BaseDistribution] = {}
        #: The largest ids of the rows that were read, by table and by unfinished trial.
        self._last_rows: dict[TrialTable, dict[int, int]] = {t: {} for t in GROWING_TABLES}
        self._version: int | None = None
        self._full_sync = -math.inf
        self._invalid: set[int] = set()
        #: The clocks of the trials that were claimed here, by id.
        self._claimed: dict[int, DatabaseClock] = {}

    def __contains__(self, trial_id: int) -> bool:
        return trial_id in self._indices or trial_id in self._ahead

    def __getitem__(self, trial_id: int) -> FrozenTrial:
        """Return a trial by its id; raise KeyError if it is unknown."""
        ahead = self._ahead.get(trial_id)
        return self.trials[self._indices[trial_id]] if ahead is None else ahead

    def distribution(self, name: str) -> BaseDistribution | None:
        """Return a distribution that a parameter has in some trial; None if it has none yet."""
        return self._distributions.get(name)

    def put(self, trial: FrozenTrial) -> None:
        """Replace a trial, or add a new one."""
        trial_id = trial._trial_id
        if trial_id in self._indices:
            self.trials[self._indices[trial_id]] = trial
            self._note_state(trial)
        else:
            self._ahead[trial_id] = trial
        if len(trial.distributions) > 0:
            self._distributions |= trial.distributions

    def _append(self, trial: FrozenTrial) -> None:
        self._indices[trial._trial_id] = len(self.trials)
        self.trials.append(trial)
        self.put(trial)

    def _note_state(self, trial: FrozenTrial) -> None:
        if trial.state.is_finished():
            self._unfinished.discard(trial._trial_id)
        else:
            self._unfinished.add(trial._trial_id)

    # --- trials that were claimed here -----------------------------------------------------------

    @property
    def claimed_ids(self) -> Collection[int]:
        """The ids of the trials that were claimed here and have not ended."""
        return self._claimed.keys()

    def add_claimed(self, trials: Iterable[FrozenTrial], clock: DatabaseClock) -> None:
        """Add trials that were claimed here; call this after the commit.

        Before it, another worker may still claim them: the transaction may be rolled back.

        Args:
            trials: that were claimed.
            clock: times them.
        """
        for trial in trials:
            self._claimed[trial._trial_id] = clock
            self.put(trial)

    def release_finished(self) -> None:
        """Forget the starts and the unused parts of trials that ended; call this after a commit."""
        for trial_id in [i for i in self._claimed if self._has_finished(i)]:
            del self._claimed[trial_id]
            if self._ahead.pop(trial_id, None) is not None:
                self._version = None  # the next sync loads it
            elif trial_id in self:
                self.put(self._observed.keep(self[trial_id]))
            self._forget_rows(trial_id)

    def _has_finished(self, trial_id: int) -> bool:
        return trial_id not in self or self[trial_id].state.is_finished()

    def moment_in(self, trial_id: int) -> datetime:
        """Return the current time, in naive UTC, on the clock that timed the start of a trial."""
        clock = self._claimed.get(trial_id)
        return utc_now() if clock is None else clock.now()

    def invalidate(self, trial_id: int) -> None:
        """Load an unfinished trial in full at the next sync."""
        self._ahead.pop(trial_id, None)
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
                the last sync, other connections have changed nothing.
            skip: the ids of trials that keep their cached state.

        Raises:
            KeyError: the study does not exist.
        """
        is_full = time.monotonic() - self._full_sync >= FULL_SYNC_INTERVAL
        is_same = version is not None and version == self._version
        if is_same and not (self._invalid or is_full):
            # All rows that are not here yet were claimed here.
            for trial_id in sorted(self._ahead):
                self._append(self._ahead.pop(trial_id))
            self.is_expired = False
            return
        if not self.trials:
            require_study(connection, self.study_id)
        invalid = self._unfinished if is_full else self._invalid
        # If this sync fails half-way, the next one is full.
        last_full_sync, self._full_sync = self._full_sync, -math.inf
        unfinished = self._load_unfinished_rows(connection)
        changed = [row for row in unfinished if row[0] in invalid or self._differs(row)]
        skipped = {row[0] for row in changed if row[0] in skip}
        loaded = [row for row in changed if row[0] not in skipped]
        for trial in self._load(connection, loaded):
            self.put(trial)
        self._load_new_trials(connection)
        growing = self._unfinished.difference((row[0] for row in changed), skip)
        for table in GROWING_TABLES:
            self._load_new_parts(connection, table, growing)
        self._version = version
        self._invalid = skipped
        self._full_sync = time.monotonic() if is_full else last_full_sync
        self.is_expired = False

    def _differs(self, row: Sequence[Any]) -> bool:
        return bool(self[row[0]].state.name != row[2])

    def _load_unfinished_rows(self, connection: Connection) -> list[Sequence[Any]]:
        found: list[Sequence[Any]] = []
        for ids in split_ids(sorted(self._unfinished)):
            found += connection.execute(_ROWS_OF_TRIALS, {"ids": ids})
        if len(found) < len(self._unfinished):
            raise KeyError(f"study {self.study_id} was deleted")
        return found

    def _load_new_trials(self, connection: Connection) -> None:
        last = self.trials[-1]._trial_id if self.trials else -1
        rows = list(connection.execute(_NEW_ROWS, {"study": self.study_id, "last": last}))
        others = [row for row in rows if row[0] not in self._ahead]
        loaded = {trial._trial_id: trial for trial in self._load(connection, others)}
        for row in rows:
            ahead = self._ahead.get(row[0])
            self._append(loaded[row[0]] if ahead is None else ahead)
            self._ahead.pop(row[0], None)

    def _load(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> list[FrozenTrial]:
        """Load trials: those that were claimed here in full until they finish."""
        own = [row for row in rows if row[0] in self._claimed and row[2] == TrialState.RUNNING.name]
        others = [row for row in rows if row not in own]
        found = [
            *load_trials(connection, own, EVERYTHING, self._last_rows),
            *load_trials(connection, others, self._observed, self._last_rows),
        ]
        for trial in found:
            if trial.state.is_finished():
                self._forget_rows(trial._trial_id)
        return found

    def _forget_rows(self, trial_id: int) -> None:
        for last in self._last_rows.values():
            last.pop(trial_id, None)

    def _load_new_parts(
        self, connection: Connection, table: TrialTable, trial_ids: Iterable[int]
    ) -> None:
        """Add the new rows of a table to these trials."""
        last = self._last_rows[table]
        ids = [i for i in trial_ids if self._grows(table, i)]
        changed: dict[int, FrozenTrial] = {}
        for some in split_ids(ids):
            bound = {"ids": some, "after": min(last.get(i, 0) for i in some)}
            for row in connection.execute(rows_after(table, self._observed), bound):
                row_id, trial_id = row[0], row[1]
                if row_id <= last.get(trial_id, 0):
                    continue
                if trial_id not in changed:
                    changed[trial_id] = copy_trial(self[trial_id])
                table.add_row(changed[trial_id], row)
                last[trial_id] = row_id
        for trial in changed.values():
            self.put(trial)

    def _grows(self, table: TrialTable, trial_id: int) -> bool:
        if self._observed == EVERYTHING:
            return True
        if trial_id in self._claimed:
            return False  # only this worker writes to it
        if table.table is parameters:
            return not self[trial_id].params  # a worker writes all of them in one transaction
        return True
