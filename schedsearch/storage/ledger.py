"""The counts of a study's trials that claims need, kept up to date by reading only new rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    String,
    bindparam,
    func,
    select,
    type_coerce,
    union_all,
)

from schedsearch.storage.attributes import RETRY_OF, SAMPLE_INDEX, SUPERSEDED_BY
from schedsearch.storage.rows import split_ids
from schedsearch.storage.tables import reports, trials, user_attributes

_IDS: BindParameter[int] = bindparam("ids", expanding=True)
_STATE = type_coerce(trials.c.state, String)
_KEYS = user_attributes.c.key.in_((RETRY_OF, SAMPLE_INDEX, SUPERSEDED_BY))
_OF_TRIAL = (user_attributes.c.trial_id == trials.c.trial_id) & _KEYS
_ROWS = select(
    trials.c.trial_id, _STATE, user_attributes.c.key, user_attributes.c.value_json
).join_from(trials, user_attributes, _OF_TRIAL, isouter=True)
_NEW = _ROWS.where(trials.c.study_id == bindparam("study"), trials.c.trial_id > bindparam("last"))
_RUNNING: BindParameter[int] = bindparam("running", expanding=True)
_ENDED = _ROWS.where(trials.c.trial_id.in_(_RUNNING), trials.c.state != "RUNNING")
_QUEUED: BindParameter[int] = bindparam("queued", expanding=True)
_TAKEN = _ROWS.where(trials.c.trial_id.in_(_QUEUED), trials.c.state != "WAITING")
# Statements are built once: building one costs as much as executing it. One statement for all
# changes: while it is sent, the study is locked.
_CHANGES = union_all(_NEW, _ENDED, _TAKEN)
_EPOCHS = select(func.count()).select_from(reports).where(reports.c.trial_id.in_(_IDS))
#: How many queued trials are checked at once.
_LONGEST_HEAD = 500


class TrialLedger:
    """The rows of one study, counted.

    Rows of trials are inserted under the lock of the study, so those that are new since the last
    sync have larger ids. A trial with its retries counts once: each retry is a row with `retry_of`.

    Attributes:
        rows: the number of rows, which is the number of the next one.
        last_id: the id of the last row; -1 if there is none.
        trial_count: the number of trials, without those that were withdrawn from the queue.
        sampled_trials: how many of these were sampled.
        finished_trials: how many of these have finished. A trial that finishes at the same time
            may still count as unfinished.
    """

    def __init__(self, study_id: int) -> None:
        self.study_id = study_id
        self.rows, self.last_id = 0, -1
        self.trial_count = self.sampled_trials = self.finished_trials = 0
        #: The queued trials by id, in order, and whether each was sampled.
        self._queued: dict[int, bool] = {}
        self._running: set[int] = set()
        self._finished_epochs = 0
        #: Finished trials whose epochs are not counted yet.
        self._uncounted: list[int] = []

    def sync(self, connection: Connection, count: int = 0) -> None:
        """Count what changed; the transaction has locked the study.

        Trials at the head of the queue that other workers have taken meanwhile, or that were
        withdrawn, are removed from it.

        Args:
            connection: in a transaction.
            count: how many trials will be taken from the queue at most.
        """
        seen, checked = self.last_id, set(self._head(count))
        bound = {"study": self.study_id, "last": seen, "queued": sorted(checked)}
        first, *others = list(split_ids(sorted(self._running))) or [[]]
        self._add(connection.execute(_CHANGES, {**bound, "running": first}).all())
        for ids in others:
            self._add(connection.execute(_ENDED, {"running": ids}).all())
        size = count
        while any(i <= seen and i not in checked for i in self._head(count)):
            size = min(4 * size, _LONGEST_HEAD)  # others have taken all that were checked
            more = [i for i in self._head(size) if i <= seen and i not in checked]
            self._add(connection.execute(_TAKEN, {"queued": more}).all())
            checked.update(more)

    def _head(self, count: int) -> list[int]:
        return list(islice(self._queued, count))

    def _add(self, changes: Sequence[Sequence[Any]]) -> None:
        """Count rows that are new, that have ended, or that have left the queue."""
        states = {row[0]: row[1] for row in changes}
        marks = _by_key((i, key, text) for i, _, key, text in changes if key is not None)
        sampled, superseded = marks[SAMPLE_INDEX].keys(), marks[SUPERSEDED_BY]
        withdrawn = _withdrawn(superseded)
        new = sorted(i for i in states if i > self.last_id)
        known = {i: self._queued.pop(i, True) for i in states if i <= self.last_id}
        retries = marks[RETRY_OF].keys() & set(new)
        self.rows += len(new)
        self.last_id = max(new, default=self.last_id)
        self.trial_count += len(new) - len(retries) - len(withdrawn)
        # A trial that Optuna's tools queued gets its index from the worker that takes it.
        self.sampled_trials += len(sampled & set(new) - retries) - len(withdrawn & sampled)
        self.sampled_trials += sum(i in sampled for i in known if not known[i])
        for trial_id, state in sorted(states.items()):
            self._running.discard(trial_id)
            if state == "WAITING":
                self._queued[trial_id] = trial_id in sampled
            elif state == "RUNNING":
                self._running.add(trial_id)
            elif trial_id not in superseded:
                self.finished_trials += 1
                self._uncounted.append(trial_id)

    def take_queued(self, count: int) -> list[int]:
        """Remove up to `count` trials from the queue, and return their ids, the oldest first.

        The transaction has locked the study, and called `sync` for as many trials.
        """
        found = self._head(count)
        for trial_id in found:
            del self._queued[trial_id]
        self._running.update(found)
        return found

    def finished_epochs(self, connection: Connection) -> int:
        """Return how many epochs the finished trials reported."""
        for ids in split_ids(self._uncounted):
            self._finished_epochs += connection.execute(_EPOCHS, {"ids": ids}).scalar_one()
        self._uncounted.clear()
        return self._finished_epochs


def _by_key(rows: Iterable[tuple[int, str, str]]) -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {RETRY_OF: {}, SAMPLE_INDEX: {}, SUPERSEDED_BY: {}}
    for trial_id, key, text in rows:
        found[key][trial_id] = text
    return found


def _withdrawn(superseded: dict[int, str]) -> set[int]:
    """Return the trials that no other one supersedes."""
    return {i for i, text in superseded.items() if text == json.dumps(None)}
