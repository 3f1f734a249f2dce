"""Asynchronous successive halving that leaves out exempt trials."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from schedsearch.pruners.decision import is_exempt
from schedsearch.storage.attributes import FROM_EPOCH, STOPPED_AFTER, is_superseded


class AshaPruner(BasePruner):
    """Prunes, at each rung, all but the best 1 / `reduction_factor` of the trials that reached it.

    A trial at a rung continues if it is among the best floor(n / reduction_factor) of the n trials
    that reached the rung so far, including itself, or the best if that is 0. A trial that stopped
    by itself before the rung counts with its last value. Exempt trials do not count. A trial that
    copies a prefix of another trial is not pruned within that prefix, since its epochs need no
    training.

    The values of finished trials at each rung are kept sorted, so the cost of a decision grows with
    the number of running and stopped trials only. Use one pruner per study.

    Args:
        rungs: the numbers of epochs after which it decides; see `space.rungs`.
        reduction_factor: the factor between the trials that reach a rung and those that go on.

    Source: Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning.
    """

    def __init__(self, rungs: Sequence[int], reduction_factor: int) -> None:
        self._rungs = tuple(sorted(rungs))
        self._reduction_factor = reduction_factor
        self._finished: defaultdict[int, list[float]] = defaultdict(list)
        # The number of epochs and the last value of each trial that stopped before the horizon.
        self._stopped: list[tuple[int, float]] = []
        self._unfinished: list[int] = []
        self._seen = 0

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether to prune the trial, which happens only at rungs."""
        epochs = trial.last_step
        if epochs is None or epochs not in self._rungs:
            return False
        if epochs <= trial.user_attrs.get(FROM_EPOCH, 0):
            return False
        sign = 1.0 if study.direction is StudyDirection.MINIMIZE else -1.0
        value = sign * trial.intermediate_values[epochs]
        if math.isnan(value):
            return True
        trials = study.get_trials(deepcopy=False)
        self._update(trials, sign)
        running = [
            other
            for number in self._unfinished
            if number != trial.number and _is_counted(trials[number])
            for other in [sign * trials[number].intermediate_values.get(epochs, math.nan)]
            if not math.isnan(other)
        ]
        finished = self._finished[epochs]
        others = running + [last for after, last in self._stopped if after < epochs]
        better = bisect_left(finished, value) + sum(other < value for other in others)
        reached = len(finished) + len(others) + 1
        return better >= max(1, reached // self._reduction_factor)

    def _update(self, trials: Sequence[FrozenTrial], sign: float) -> None:
        """Add the rung values of trials that finished since the last update."""
        numbers = [*self._unfinished, *range(self._seen, len(trials))]
        self._unfinished = []
        self._seen = len(trials)
        for number in numbers:
            trial = trials[number]
            if not trial.state.is_finished():
                self._unfinished.append(number)
                continue
            after = trial.user_attrs.get(STOPPED_AFTER)
            if after in trial.intermediate_values and _is_counted(trial):
                self._stopped.append((after, sign * trial.intermediate_values[after]))
            for rung in self._rungs:
                if rung <= (trial.last_step or 0) and _is_counted(trial):
                    value = sign * trial.intermediate_values.get(rung, math.nan)
                    if not math.isnan(value):
                        insort(self._finished[rung], value)


def _is_counted(trial: FrozenTrial) -> bool:
    """Return whether a trial counts at the rungs it reached; a retried trial counts once."""
    return not is_exempt(trial) and not is_superseded(trial)
