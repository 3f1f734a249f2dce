"""A worker's view of its study: the trials, batches of writes, a sampler and a pruner."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from schedsearch.pruners import make_pruner
from schedsearch.race import make_race
from schedsearch.samplers import make_sampler
from schedsearch.storage import Batch, BatchedStorage, StudyHandle, check_trial
from schedsearch.storage.attributes import RETRY_OF, TEST_METRICS, WORKER


class StudySession:
    """One worker's access to its study.

    Args:
        study: whose trials the worker takes.
        worker: the worker's name, unique among all workers that the study ever had.

    Attributes:
        storage: holds the study's trials in memory between two rounds.
        optuna: the Optuna study, with this worker's sampler and pruner.
    """

    def __init__(self, study: StudyHandle, worker: str) -> None:
        self.study, self.worker = study, worker
        self.storage = BatchedStorage(study.database)
        self.optuna: optuna.Study
        self._tested: set[str] | None = None
        self.reload()

    def reload(self) -> None:
        """Make a sampler, a pruner and a race that remember nothing yet.

        The sampler's seed differs with the number of trials that this worker has begun, so it does
        not repeat its proposals, here or in a restarted process.
        """
        begun, space = len(self.own_trials()), self.study.space
        self.optuna = self.study.load_for_search(
            make_sampler(space, f"{self.worker} {begun}" if begun else self.worker),
            make_pruner(space),
            self.storage,
        )
        self._race = make_race(space)

    def own_trials(self) -> list[FrozenTrial]:
        """Return the trials that this worker has begun."""
        every = self.storage.get_all_trials(self.study.study_id, deepcopy=False)
        return [trial for trial in every if trial.user_attrs.get(WORKER) == self.worker]

    def running_trials(self) -> int:
        """Count the trials that any worker trains."""
        states = (TrialState.RUNNING,)
        return len(self.storage.get_all_trials(self.study.study_id, deepcopy=False, states=states))

    def is_running(self, trial_id: int) -> bool:
        """Return whether a trial is not lost, by the database now."""
        return self.study.database.optuna.get_trial(trial_id).state is TrialState.RUNNING

    def waiting_message(self, seconds: float) -> str | None:
        """Say which trials of other workers this one waits for; None if that was said before."""
        return self.study.queue.liveness.waiting_message(seconds)

    def trial(self, trial_id: int) -> Trial:
        """Return a trial that this worker has claimed.

        Raises:
            DamagedStudyError: the queued trial is not valid.
        """
        check_trial(self.study.name, self.storage.get_trial(trial_id))
        return Trial(self.optuna, trial_id)

    def first_row(self, trial: Trial) -> int:
        """Return the number of the row with which a trial began: a retry is another row."""
        rows = self.storage.get_all_trials(self.study.study_id, deepcopy=False)
        number = trial.number
        while (before := rows[number].user_attrs.get(RETRY_OF, number)) < number:
            number = before
        return number

    def refresh(self) -> None:
        """Read the changes of other workers, in one transaction."""
        self.storage.refresh(self.study.study_id)

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Collect writes and claims, and commit them in one transaction at the end.

        Afterwards `batch.lost` names trials that other workers took over: none of their writes was
        committed, and sampler, pruner and race are made again, since they had seen those writes.
        """
        with self.storage.batch(self.study.study_id, self.worker, self._race) as batch:
            yield batch
        if batch.lost:
            self.reload()

    def register(self) -> None:
        """Record that this process is the worker, before it claims trials."""
        self.study.queue.liveness.register(self.worker)

    def record_tested(self, names: Collection[str] | None) -> None:
        """Record which metrics a training loop measures on the test split, if that is known."""
        if names is None or set(names) == self._tested:
            return
        self._tested = set(names)
        study = self.study
        with study.database.creation_lock():
            if study.attributes(TEST_METRICS).get(TEST_METRICS) != sorted(names):
                storage = study.database.optuna
                storage.set_study_user_attr(study.study_id, TEST_METRICS, sorted(names))

    def hand_back(self) -> None:
        """Return this worker's running trials to the queue, also during a KeyboardInterrupt."""
        try:
            self.study.queue.requeue_trials_of(self.worker)
        except KeyboardInterrupt:
            self.study.queue.requeue_trials_of(self.worker)
            raise

    def fail(self, trial_ids: Collection[int], reason: str) -> None:
        """Fail some running trials, and return this worker's others to the queue.

        It may be called from any thread.
        """
        self.study.queue.fail(self.worker, list(trial_ids), reason)
        self.study.queue.requeue_trials_of(self.worker)


def is_interrupted() -> bool:
    """Return whether a KeyboardInterrupt is being handled: the user wants to stop at once."""
    return isinstance(sys.exception(), KeyboardInterrupt)
