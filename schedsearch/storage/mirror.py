"""A study's trials in memory, brought up to date by reading only what changed."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, bindparam, select

from schedsearch.storage.attributes import SAMPLE_INDEX
from schedsearch.storage.rows import PARTS, TRIAL_ROWS, Part, chunks, copy_of, read_whole
from schedsearch.storage.tables import studies, trials

#: Seconds after which unfinished trials are read whole: others need not write in the order of ids.
SWEEP = 30.0

_SOME = TRIAL_ROWS.where(trials.c.trial_id.in_(bindparam("ids", expanding=True)))
_NEW = TRIAL_ROWS.where(
    trials.c.study_id == bindparam("study"), trials.c.trial_id > bindparam("last")
).order_by(trials.c.trial_id)


class StudyMirror:
    """The local copy of a study's trials.

    A trial here is never changed, but replaced: whoever was given the list keeps what it saw.

    Trials gain rows in the order of their ids while workers hold the study's lock, so what came
    since the last look are the rows with larger ids. A trial that ends is read whole once more.
    """

    def __init__(self, study_id: int) -> None:
        self.study_id = study_id
        #: By number, which is also the place.
        self.trials: list[FrozenTrial] = []
        #: How many chains of rows that replace each other there are, and how many were sampled.
        self.chains = self.samples = 0
        #: How many chains have ended, and how many epochs these reported.
        self.ended = self.ended_epochs = 0
        self._places: dict[int, int] = {}
        self._unfinished: set[int] = set()
        self._distributions: dict[str, BaseDistribution] = {}
        self._seen: dict[Part, int] = {}
        self._version: int | None = None
        self._swept = -math.inf
        self._doubted: set[int] = set()

    def __contains__(self, trial_id: int) -> bool:
        return trial_id in self._places

    def __getitem__(self, trial_id: int) -> FrozenTrial:
        """Return a trial by its id; raise KeyError if there is none."""
        return self.trials[self._places[trial_id]]

    @property
    def last_id(self) -> int:
        """The id of the last trial; smaller than every id if there is none."""
        return self.trials[-1]._trial_id if self.trials else -1

    def waiting(self) -> list[FrozenTrial]:
        """Return the queued trials, by number."""
        found = (self[trial_id] for trial_id in sorted(self._unfinished))
        return [trial for trial in found if trial.state is TrialState.WAITING]

    def running_of(self, worker: str) -> list[FrozenTrial]:
        """Return the trials that a worker has running, by number."""
        found = (self[trial_id] for trial_id in sorted(self._unfinished))
        return [
            trial
            for trial in found
            if trial.state is TrialState.RUNNING and trial.user_attrs.get("worker") == worker
        ]

    def distribution(self, name: str) -> BaseDistribution | None:
        """Return a distribution that a parameter was drawn from."""
        return self._distributions.get(name)

    def put(self, trial: FrozenTrial) -> None:
        """Add a trial, or put it in the place of what it was."""
        trial_id = trial._trial_id
        place = self._places.get(trial_id)
        if place is None:
            self._places[trial_id] = len(self.trials)
            self.trials.append(trial)
        else:
            self._count(self.trials[place], -1)
            self.trials[place] = trial
        self._count(trial, 1)
        if trial.state.is_finished():
            self._unfinished.discard(trial_id)
        else:
            self._unfinished.add(trial_id)
        if len(trial.distributions) > 0:
            self._distributions |= trial.distributions

    def _count(self, trial: FrozenTrial, sign: int) -> None:
        if "superseded_by" not in trial.user_attrs:
            self.chains += sign
            self.samples += sign * (SAMPLE_INDEX in trial.user_attrs)
            if trial.state.is_finished():
                self.ended += sign
                self.ended_epochs += sign * len(trial.intermediate_values)

    def invalidate(self, trial_id: int) -> None:
        """Read an unfinished trial whole at the next occasion."""
        if trial_id in self._unfinished:
            self._doubted.add(trial_id)

    def invalidate_all(self) -> None:
        """Read all unfinished trials whole at the next occasion."""
        self._swept = -math.inf

    # --- reading ---------------------------------------------------------------------------------

    def sync(
        self,
        connection: Connection,
        *,
        version: int | None = None,
        skip: Collection[int] = (),
    ) -> None:
        """Read what others did since the last time.

        Args:
            connection: in a transaction.
            version: differs from the last one if somebody else wrote; None where nobody knows.
            leave: ids of trials that stay as they are here.

        Raises:
            KeyError: the study does not exist, or no longer.
        """
        overdue = time.monotonic() - self._swept >= SWEEP
        if version is not None and version == self._version and not self._doubted and not overdue:
            return
        if not self._seen:
            self._begin(connection)
        doubted = self._unfinished if overdue else self._doubted
        # What fails half-way has all of them read whole the next time.
        swept, self._swept = self._swept, -math.inf
        known = self._rows_of_unfinished(connection)
        whole = [row for row in known if row[0] in doubted or self[row[0]].state.name != row[2]]
        whole += self._new_rows(connection)
        left = {row[0] for row in whole if row[0] in skip}
        whole = [row for row in whole if row[0] not in left]
        for trial in read_whole(connection, whole):
            self.put(trial)
        known_to = self._unfinished.difference((row[0] for row in whole), skip)
        for part in PARTS:
            left |= self._take_in(connection, part, known_to) & set(skip)
        self._version = version
        self._doubted = left
        self._swept = time.monotonic() if overdue else swept

    def _rows_of_unfinished(self, connection: Connection) -> list[Sequence[Any]]:
        found: list[Sequence[Any]] = []
        for chunk in chunks(sorted(self._unfinished)):
            found += connection.execute(_SOME, {"ids": chunk})
        if len(found) < len(self._unfinished):
            raise KeyError(f"study {self.study_id} was deleted")
        return found

    def _new_rows(self, connection: Connection) -> list[Sequence[Any]]:
        return list(connection.execute(_NEW, {"study": self.study_id, "last": self.last_id}))

    def _begin(self, connection: Connection) -> None:
        study = select(studies.c.study_id).where(studies.c.study_id == self.study_id)
        if connection.execute(study).scalar() is None:
            raise KeyError(f"there is no study {self.study_id}")
        self._seen = {part: connection.execute(part.last).scalar() or 0 for part in PARTS}

    def _take_in(self, connection: Connection, part: Part, trial_ids: Collection[int]) -> set[int]:
        """Add what trials gained since the last time to them; return which others gained some."""
        gained: dict[int, FrozenTrial] = {}
        others: set[int] = set()
        for row in connection.execute(part.since, {"id": self._seen[part]}):
            row_id, trial_id = row[0], row[1]
            self._seen[part] = row_id
            if trial_id in trial_ids:
                if trial_id not in gained:
                    gained[trial_id] = copy_of(self[trial_id])
                part.put(gained[trial_id], row)
            else:
                others.add(trial_id)
        for trial in gained.values():
            self.put(trial)
        return others
