"""The queue of trials by Optuna's own calls alone, for tables that are not known here.

Each step is a call of its own. A worker that dies between two of them loses the trial it handed
back, and a new one is drawn in its place; workers that claim at the same moment may begin a few
trials more than the study's budget allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from schedsearch.storage.attributes import SAMPLE_INDEX
from schedsearch.storage.claims import Budget
from schedsearch.storage.database import Database
from schedsearch.storage.queue import GRACE, INHERITED, Counts, TrialQueue

#: The user attribute that says when a trial's worker was last heard of, in seconds since 1970.
_BEAT = "beat"


class PlainTrialQueue(TrialQueue):
    """The trials of one study, as its workers share them; the hosts' clocks should agree."""

    def __init__(self, database: Database, study_id: int) -> None:
        super().__init__(database, study_id)
        self._storage = database.optuna

    def claim(self, worker: str) -> int | None:
        """Make a queued trial this worker's, or a new one if the study's budget has room for it.

        Returns the trial's id, or None if nothing is left to begin.
        """
        trial_id = self._begin_queued()
        if trial_id is None:
            if not self.room():
                return None
            drawn = create_trial(
                state=TrialState.RUNNING,
                user_attrs={SAMPLE_INDEX: self._samples(), "worker": worker},
            )
            trial_id = self._storage.create_new_trial(self._study_id, drawn)
        self._storage.set_trial_user_attr(trial_id, "worker", worker)
        self.beat([trial_id])
        return trial_id

    def beat(self, trial_ids: list[int]) -> None:
        for trial_id in trial_ids:
            with suppress(UpdateFinishedTrialError):
                self._storage.set_trial_user_attr(trial_id, _BEAT, time.time())

    def fail(self, worker: str, trial_ids: Sequence[int], reason: str) -> None:
        for trial in self._trials():
            if trial._trial_id in trial_ids and trial.user_attrs.get("worker") == worker:
                with suppress(UpdateFinishedTrialError):
                    self._storage.set_trial_user_attr(trial._trial_id, "traceback", reason)
                    self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)

    def hand_back_all_of(self, worker: str) -> int:
        return self._hand_back(lambda trial: trial.user_attrs.get("worker") == worker)

    def hand_back_stale(self, grace: timedelta = GRACE) -> int:
        silent = self._silence.look(self._beats(), grace.total_seconds())
        return self._hand_back(lambda trial: trial._trial_id in silent)

    def alive(self, grace: timedelta = GRACE) -> int:
        limit = time.time() - grace.total_seconds()
        return sum(beat > limit for beat in self._beats().values())

    def counts(self) -> Counts:
        return Counts.of(self._trials())

    def budget(self) -> Budget:
        return Budget.of(self._storage.get_study_user_attrs(self._study_id))

    def _ended_epochs(self) -> int:
        return sum(
            len(trial.intermediate_values)
            for trial in self._trials()
            if trial.state.is_finished() and "superseded_by" not in trial.user_attrs
        )

    def _beats(self) -> dict[int, float]:
        """Return when the worker of each running trial was last heard of."""
        return {
            trial._trial_id: trial.user_attrs.get(_BEAT, 0.0)
            for trial in self._trials()
            if trial.state is TrialState.RUNNING
        }

    def _trials(self) -> list[FrozenTrial]:
        return self._storage.get_all_trials(self._study_id, deepcopy=False)

    def _begin_queued(self) -> int | None:
        """Begin a queued trial, unless others are faster with each of them."""
        for trial in self._trials():
            if trial.state is TrialState.WAITING:
                with suppress(UpdateFinishedTrialError):
                    if self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                        if not {"plan", SAMPLE_INDEX} & trial.user_attrs.keys():
                            self._storage.set_trial_user_attr(
                                trial._trial_id, SAMPLE_INDEX, self._samples()
                            )
                        return trial._trial_id
        return None

    def _samples(self) -> int:
        attributes = (trial.user_attrs for trial in self._trials())
        return sum(SAMPLE_INDEX in found and "superseded_by" not in found for found in attributes)

    def _hand_back(self, is_lost: Callable[[FrozenTrial], bool]) -> int:
        handed_back = 0
        for trial in self._trials():
            if trial.state is TrialState.RUNNING and is_lost(trial):
                with suppress(UpdateFinishedTrialError):
                    self._supersede_plainly(trial)
                    handed_back += 1
        return handed_back

    def _supersede_plainly(self, trial: FrozenTrial) -> None:
        number = len(self._trials())
        self._storage.set_trial_user_attr(trial._trial_id, "superseded_by", number)
        self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        attributes = {key: trial.user_attrs[key] for key in INHERITED if key in trial.user_attrs}
        fixed = {
            key: trial.system_attrs[key] for key in ("fixed_params",) if key in trial.system_attrs
        }
        successor = create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**attributes, "retry_of": trial.number},
            system_attrs=fixed,
        )
        self._storage.create_new_trial(self._study_id, successor)


def trial_queue(database: Database, study_id: int) -> TrialQueue:
    """Return the queue that fits a database's tables."""
    return (TrialQueue if database.known_schema else PlainTrialQueue)(database, study_id)
