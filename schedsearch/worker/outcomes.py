"""The outcome of an epoch of a trial: it continues, completes, is pruned, diverges or fails."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any

import optuna
from optuna.trial import TrialState

from schedsearch.errors import DamagedStudyError, InputError, StudyError
from schedsearch.exception_lines import describe_error
from schedsearch.metric_names import metric_on_test, missing_on_test
from schedsearch.printable import describe_stop
from schedsearch.pruners import decide_pruning
from schedsearch.storage import BatchedStorage, StudyHandle, find_study
from schedsearch.storage.attributes import (
    DIVERGED,
    EPOCHS_TRAINED,
    FORECAST,
    NUMERICS,
    REFUSED,
    STOPPED_AFTER,
    TEST,
    TEST_METRICS,
    TRACEBACK,
    VALIDATION,
    WOULD_PRUNE,
)
from schedsearch.worker.best_trial import BestTrialNotifier
from schedsearch.worker.failures import Failures, traceback_of
from schedsearch.worker.options import Messages
from schedsearch.worker.summary import summary
from schedsearch.worker.trial import LiveTrial


class Outcomes:
    """Reports and ends trials, within a batch.

    Args:
        study: the study.
        storage: takes the reports.
        failures: counts failures in a row.
        notifier: called for each new best trial.
        messages: lines for the user.
        numerics: those of the trainings that differ from the study's.
    """

    def __init__(
        self,
        study: StudyHandle,
        storage: BatchedStorage,
        failures: Failures,
        notifier: BestTrialNotifier,
        messages: Messages,
        numerics: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._space, self._storage, self._failures = study.space, storage, failures
        self._is_tested = study.follows is not None
        self._said_mismatch = _mismatch_already_said(study)
        self._notifier, self._messages, self._numerics = notifier, messages, dict(numerics)
        self._ended: list[tuple[int, str]] = []
        self._told: list[LiveTrial] = []

    def report(self, live: LiveTrial, study: optuna.Study) -> bool:
        """Report a trial's last epoch; return whether the trial has ended.

        A fresh run of another study's plan is not ended here, even after its last epoch: `complete`
        ends it.
        """
        metric = live.metric
        # Through the storage: Optuna's Trial copies the whole trial at each report.
        self._storage.set_trial_intermediate_value(live.trial_id, live.epochs, metric)
        if math.isnan(metric):
            self._diverge(live)
        elif live.has_ended:
            if self._is_tested:
                return False
            self._finish(live, TrialState.COMPLETE, live.value)
        elif self._should_prune(live, study):
            self._finish(live, TrialState.PRUNED)
        else:
            return False
        return True

    def _should_prune(self, live: LiveTrial, study: optuna.Study) -> bool:
        trial = self._storage.get_trial(live.trial_id)
        decision = decide_pruning(study.pruner, self._space, study, trial)
        if decision.forecast is not None:
            live.trial.set_user_attr(FORECAST, [live.epochs, *decision.forecast])
        if decision.would_prune:
            live.trial.set_user_attr(WOULD_PRUNE, live.epochs)
        return decision.prune

    def complete(self, live: LiveTrial, test: Mapping[str, float]) -> None:
        """Complete a trial that follows another study by its metrics on the test split.

        Its value is the objective's metric on that split, or on the validation split if the task
        has no such metric. If that metric is not finite, the trial counts as diverged.
        """
        metric = self._space.objective.metric
        found = test.get(metric_on_test(metric))
        why = missing_on_test(metric, sorted(test)) if test else None
        if why is not None and why != self._said_mismatch:
            self._said_mismatch = why
            self._messages.warn(why)
        if found is not None and not math.isfinite(found):
            self._diverge(live, f"diverged: {metric_on_test(metric)} is not finite")
            return
        live.trial.set_user_attr(VALIDATION, live.value)
        live.trial.set_user_attr(TEST, found)
        name, value = (metric, live.value) if found is None else (metric_on_test(metric), found)
        outcome = f"complete: {name} {value:.6g} with seed {live.runs[0].seed}"
        outcome += describe_stop(live.stopped_after)
        self._finish(live, TrialState.COMPLETE, value, outcome)

    def _diverge(self, live: LiveTrial, outcome: str | None = None) -> None:
        # PRUNED: a sampler learns nothing from a FAIL, and would propose similar values again.
        live.trial.set_user_attr(DIVERGED, live.epochs)
        self._finish(live, TrialState.PRUNED, outcome=outcome)

    def refuse(self, live: LiveTrial, error: InputError) -> None:
        """End a trial whose parameters break a rule together."""
        live.trial.set_user_attr(REFUSED, str(error))
        self._tell(live, TrialState.PRUNED, None)
        self._ended.append((live.trial_id, f"trial {live.trial.number} refused: {error}"))

    def fail(self, live: LiveTrial, error: Exception) -> None:
        """End a trial whose training raised."""
        live.trial.set_user_attr(TRACEBACK, traceback_of(error))
        self._tell(live, TrialState.FAIL, None)
        self.add_failure(live, describe_error(error))

    def add_failure(self, live: LiveTrial, reason: str) -> None:
        """Print, and count, that a trial failed."""
        epoch = min(live.epochs + 1, self._space.horizon)
        self._messages.warn(f"trial {live.trial.number} failed in epoch {epoch}: {reason}")
        self._failures.add(reason)

    def announce(self, lost: Container[int]) -> None:
        """Print the trials that ended, once that is committed, but for those that were lost.

        The folders of their runs are removed: a trial that was lost continues elsewhere.
        """
        for trial_id, line in self._ended:
            if trial_id not in lost:
                self._messages.info(line)
        for live in self._told:
            for run in live.runs if live.trial_id not in lost else ():
                if run.directory is not None:
                    run.directory.remove()
        self._ended.clear()
        self._told.clear()

    def _finish(
        self,
        live: LiveTrial,
        state: TrialState,
        value: float | None = None,
        outcome: str | None = None,
    ) -> None:
        for key, kept in summary(live.runs).items():
            live.trial.set_user_attr(key, kept)
        if self._numerics:
            live.trial.set_user_attr(NUMERICS, self._numerics)
        trained = sum(run.epochs_trained for run in live.runs)
        if trained != sum(run.epochs for run in live.runs):
            live.trial.set_user_attr(EPOCHS_TRAINED, trained)
        is_complete = state is TrialState.COMPLETE
        if is_complete and live.stopped_after is not None:
            live.trial.set_user_attr(STOPPED_AFTER, live.stopped_after)
        if is_complete:
            self._notifier.notify(live)
        outcome = outcome or live.outcome(self._space.objective, complete=is_complete)
        self._ended.append((live.trial_id, f"trial {live.trial.number} {outcome}"))
        self._tell(live, state, value)
        self._failures.clear()

    def _tell(self, live: LiveTrial, state: TrialState, value: float | None) -> None:
        live.trial.study.tell(live.trial, value, state, skip_if_finished=True)
        self._told.append(live)


def _mismatch_already_said(study: StudyHandle) -> str | None:
    """Return why runs are not compared on the test split, if the command says it before they train.

    None for a search, and if the search has not seen which metrics are measured on that split.
    """
    if study.follows is None:
        return None
    try:
        searched = find_study(study.database, study.follows.study)
        tested = None if searched is None else searched.attributes(TEST_METRICS).get(TEST_METRICS)
    except (DamagedStudyError, StudyError, KeyError):  # KeyError: deleted
        return None
    return None if tested is None else missing_on_test(study.space.objective.metric, tested)
