"""What becomes of a trial after an epoch: it goes on, or ends well, pruned or failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Container

import optuna
from optuna.trial import TrialState

from schedsearch.errors import InputError
from schedsearch.pruners import decide_pruning
from schedsearch.space import Space
from schedsearch.storage import WOULD_PRUNE, BatchedStorage
from schedsearch.worker.best_trial import BestTrialNotifier
from schedsearch.worker.failures import Failures, shown, traceback_of
from schedsearch.worker.summary import summary
from schedsearch.worker.trial import LiveTrial


class Outcomes:
    """Reports and ends trials, within a round.

    Args:
        space: what the study searches.
        storage: takes the reports.
        failures: counts those in a row.
        showing: gives each new best trial its picture.
        say: tells the person one line about what went wrong.
        report: tells the person one line about what went well.
    """

    def __init__(
        self,
        space: Space,
        storage: BatchedStorage,
        failures: Failures,
        notifier: BestTrialNotifier,
        say: Callable[[str], None],
        report: Callable[[str], None],
    ) -> None:
        self._space, self._storage, self._failures = space, storage, failures
        self._notifier = notifier
        self._say, self._say_well = say, report
        self._ended: list[tuple[int, str]] = []

    def report(self, live: LiveTrial, study: optuna.Study) -> bool:
        """Report the last epoch of a trial; tell whether it ended with it."""
        metric = live.metric
        # By the storage: Optuna's Trial copies the whole trial at each report.
        self._storage.set_trial_intermediate_value(live.trial_id, live.epochs, metric)
        if math.isnan(metric):
            # Ended as pruned: samplers learn nothing from a failed trial, and would come back.
            live.trial.set_user_attr("diverged", live.epochs)
            self._finish(live, TrialState.PRUNED)
        elif live.epochs >= self._space.horizon:
            self._finish(live, TrialState.COMPLETE)
        elif self._should_prune(live, study):
            self._finish(live, TrialState.PRUNED)
        else:
            return False
        return True

    def _should_prune(self, live: LiveTrial, study: optuna.Study) -> bool:
        trial = self._storage.get_trial(live.trial_id)
        found = decide_pruning(study.pruner, self._space, study, trial)
        if found.would_prune:
            live.trial.set_user_attr(WOULD_PRUNE, live.epochs)
        return found.prune

    def refuse(self, live: LiveTrial, error: InputError) -> None:
        """End a trial whose parameters break a rule together."""
        # Ended as pruned, since samplers learn nothing from a failed trial.
        live.trial.set_user_attr("refused", str(error))
        self._tell(live, TrialState.PRUNED, None)
        self._ended.append((live.trial_id, f"trial {live.trial.number} refused: {error}"))

    def fail(self, live: LiveTrial, error: Exception) -> None:
        """End a trial whose training raised."""
        live.trial.set_user_attr("traceback", traceback_of(error))
        self._tell(live, TrialState.FAIL, None)
        self.say_failed(live, shown(error))

    def say_failed(self, live: LiveTrial, reason: str) -> None:
        """Say, and count, that a trial failed."""
        self._say(f"trial {live.trial.number} failed in epoch {live.epochs + 1}: {reason}")
        self._failures.add(reason)

    def announce(self, lost: Container[int]) -> None:
        """Say which trials ended, once it is written; nothing of those that were lost."""
        for trial_id, line in self._ended:
            if trial_id not in lost:
                self._say_well(line)
        self._ended.clear()

    def _finish(self, live: LiveTrial, state: TrialState) -> None:
        for key, value in summary(live.runs).items():
            live.trial.set_user_attr(key, value)
        trained = sum(run.epochs_trained for run in live.runs)
        if trained != live.epochs * len(live.runs):
            live.trial.set_user_attr("trained", trained)
        complete = state is TrialState.COMPLETE
        if complete:
            self._notifier.on_best_trial(live)
        outcome = live.outcome(self._space.objective, complete=complete)
        self._ended.append((live.trial_id, f"trial {live.trial.number} {outcome}"))
        self._tell(live, state, live.value if complete else None)
        self._failures.clear()

    def _tell(self, live: LiveTrial, state: TrialState, value: float | None) -> None:
        live.trial.study.tell(live.trial, value, state, skip_if_finished=True)
