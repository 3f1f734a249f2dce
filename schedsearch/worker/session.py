"""A worker's view of its study: the trials, batches of writes, a sampler and a pruner."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from schedsearch.pruners import compared_epochs, make_pruner
from schedsearch.race.race import make_race
from schedsearch.samplers import compared_epochs as sampled_epochs
from schedsearch.samplers import make_sampler
from schedsearch.space import Space
from schedsearch.storage import Batch, BatchedStorage, Observed, StudyHandle, check_trial
from schedsearch.storage.attributes import (
    CLAMPED,
    PLAN,
    RETRY_OF,
    RUNS,
    TERMS,
    TEST_METRICS,
    TRACEBACK,
    VALUES,
)

#: What trials keep for people and for other commands: of the samplers and pruners, only those that
#: forecast read it.
_UNUSED = frozenset({PLAN, VALUES, TERMS, RUNS, CLAMPED, TRACEBACK})


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
        self.storage = BatchedStorage(study.database, observed_parts(study.space))
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
            make_sampler(
                space,
                f"{self.worker} {begun}" if begun else self.worker,
                self.study.record.earlier,
            ),
            make_pruner(space),
            self.storage,
        )
        self._race = make_race(space)

    def own_trials(self) -> list[FrozenTrial]:
        """Return the trials that this worker has begun."""
        return self.study.queue.claimed_by(self.worker)

    def running_trials(self) -> int:
        """Count the trials that any worker trains."""
        return self.study.queue.running()

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
        number, before = trial.number, trial.user_attrs.get(RETRY_OF)
        while before is not None and before < number:
            rows = self.storage.get_all_trials(self.study.study_id, deepcopy=False)
            number, before = before, rows[before].user_attrs.get(RETRY_OF)
        return number

    def expire(self) -> None:
        """Let the next decision that compares trials read what other workers have written."""
        self.storage.expire(self.study.study_id)

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
        self.study.record_attribute(TEST_METRICS, sorted(names))

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


def observed_parts(space: Space) -> Observed:
    """Return the parts of other workers' trials that the sampler and the pruner of a space read.

    So the memory of a worker, and the time of a read, do not grow with all reports.
    """
    if "forecast" in (space.search.sampler.name, space.search.pruner.name):
        return Observed()
    # A race trains plans again.
    unused = _UNUSED if space.search.race is None else _UNUSED - {PLAN}
    by_pruner = compared_epochs(space)
    return Observed(None if by_pruner is None else by_pruner | sampled_epochs(space), unused)


def is_interrupted() -> bool:
    """Return whether a KeyboardInterrupt is being handled: the user wants to stop at once."""
    return isinstance(sys.exception(), KeyboardInterrupt)
