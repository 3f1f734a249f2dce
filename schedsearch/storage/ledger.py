"""The counts of a study's trials that claims need, kept up to date by reading only new rows."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable

from sqlalchemy import BindParameter, Connection, String, bindparam, func, select, type_coerce

from schedsearch.storage.attributes import RETRY_OF, SAMPLE_INDEX, SUPERSEDED_BY
from schedsearch.storage.rows import split_ids
from schedsearch.storage.tables import reports, trials, user_attributes

_IDS: BindParameter[int] = bindparam("ids", expanding=True)
_STATE = type_coerce(trials.c.state, String)
_KEYS = user_attributes.c.key.in_((RETRY_OF, SAMPLE_INDEX, SUPERSEDED_BY))
_ATTRIBUTES = select(
    user_attributes.c.trial_id, user_attributes.c.key, user_attributes.c.value_json
).where(_KEYS)
# Statements are built once: building one costs as much as executing it. One statement for the rows
# and their attributes: while it is sent, the study is locked.
_NEW_ROWS = (
    select(trials.c.trial_id, _STATE, user_attributes.c.key, user_attributes.c.value_json)
    .join_from(
        trials,
        user_attributes,
        (user_attributes.c.trial_id == trials.c.trial_id) & _KEYS,
        isouter=True,
    )
    .where(trials.c.study_id == bindparam("study"), trials.c.trial_id > bindparam("last"))
)
_ATTRIBUTES_OF_TRIALS = _ATTRIBUTES.where(user_attributes.c.trial_id.in_(_IDS))
_STATES = select(trials.c.trial_id, _STATE).where(trials.c.trial_id.in_(_IDS))
_EPOCHS = select(func.count()).select_from(reports).where(reports.c.trial_id.in_(_IDS))


class TrialLedger:
    """The rows of one study, counted.

    Rows of trials are inserted under the lock of the study, so those that are new since the last
    sync have larger ids. A trial with its retries counts once: each retry is a row with `retry_of`.

    Attributes:
        rows: the number of rows, which is the number of the next one.
        last_id: the id of the last row; -1 if there is none.
        trial_count: the number of trials, without those that were withdrawn from the queue.
        sampled_trials: how many of these were sampled.
        finished_trials: how many of these have finished; 0 unless `count_finished` was called.
        finished_epochs: how many epochs the finished trials reported; the same.
    """

    def __init__(self, study_id: int) -> None:
        self.study_id = study_id
        self.rows, self.last_id = 0, -1
        self.trial_count = self.sampled_trials = 0
        self.finished_trials = self.finished_epochs = 0
        #: The queued trials by id, in order, and whether each was sampled.
        self._queued: dict[int, bool] = {}
        #: The rows that had not finished at the last count.
        self._open: set[int] = set()

    def sync(self, connection: Connection) -> None:
        """Count the new rows; the transaction has locked the study."""
        bound = {"study": self.study_id, "last": self.last_id}
        found = connection.execute(_NEW_ROWS, bound).all()
        if not found:
            return
        states = {row[0]: row[1] for row in found}
        marks = _by_key((i, key, text) for i, _, key, text in found if key is not None)
        retries, sampled = marks[RETRY_OF].keys(), marks[SAMPLE_INDEX].keys()
        withdrawn = _withdrawn(marks[SUPERSEDED_BY])
        self.rows += len(states)
        self.last_id = max(states)
        self.trial_count += len(states) - len(retries) - len(withdrawn)
        self.sampled_trials += len(sampled - retries) - len(withdrawn & sampled)
        self._queued |= {i: i in sampled for i in sorted(states) if states[i] == "WAITING"}
        self._open.update(states)

    def take_queued(self, connection: Connection, count: int) -> list[int]:
        """Remove up to `count` trials from the queue, and return their ids, the oldest first.

        The transaction has locked the study. Trials that other workers have taken meanwhile, or
        that were withdrawn, are removed as well.
        """
        found: list[int] = []
        while self._queued and len(found) < count:
            first = list(self._queued)[: count - len(found)]
            rows = connection.execute(_STATES, {"ids": first})
            waiting = sorted(trial_id for trial_id, state in rows if state == "WAITING")
            self._count_taken(connection, [i for i in first if i not in waiting])
            for trial_id in first:
                del self._queued[trial_id]
            found += waiting
        return found

    def _count_taken(self, connection: Connection, trial_ids: Collection[int]) -> None:
        if not trial_ids:
            return
        marks = _by_key(connection.execute(_ATTRIBUTES_OF_TRIALS, {"ids": trial_ids}))
        sampled, withdrawn = marks[SAMPLE_INDEX].keys(), _withdrawn(marks[SUPERSEDED_BY])
        # A trial that Optuna's tools queued gets its index from the worker that takes it.
        self.sampled_trials += sum(i in sampled and not self._queued[i] for i in trial_ids)
        self.sampled_trials -= len(withdrawn & sampled)
        self.trial_count -= len(withdrawn)

    def count_finished(self, connection: Connection) -> None:
        """Count the trials that have finished, and the epochs that they reported.

        A trial that finishes at the same time may still count as unfinished.
        """
        finished: set[int] = set()
        for ids in split_ids(sorted(self._open)):
            rows = connection.execute(_STATES, {"ids": ids}).all()
            finished.update(i for i, state in rows if state not in ("RUNNING", "WAITING"))
        self._open -= finished
        for ids in split_ids(sorted(finished)):
            marks = _by_key(connection.execute(_ATTRIBUTES_OF_TRIALS, {"ids": ids}))
            counted = [i for i in ids if i not in marks[SUPERSEDED_BY]]
            self.finished_trials += len(counted)
            self.finished_epochs += connection.execute(_EPOCHS, {"ids": counted}).scalar_one()


def _by_key(rows: Iterable[tuple[int, str, str]]) -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {RETRY_OF: {}, SAMPLE_INDEX: {}, SUPERSEDED_BY: {}}
    for trial_id, key, text in rows:
        found[key][trial_id] = text
    return found


def _withdrawn(superseded: dict[int, str]) -> set[int]:
    """Return the trials that no other one supersedes."""
    return {i for i, text in superseded.items() if text == json.dumps(None)}
