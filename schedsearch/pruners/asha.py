"""Asynchronous successive halving, without the trials that are trained in full."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from schedsearch.pruners.exempt import is_exempt
from schedsearch.storage import FROM_EPOCH, WOULD_PRUNE


class AshaPruner(BasePruner):
    """Prunes at rungs all but the best one in `reduction_factor` of the trials that reached them.

    Rung k stands at min_epochs * reduction_factor ** k epochs. A trial that reaches one goes on if
    it is among the best floor(n / reduction_factor) of the n trials seen there so far, itself
    included, or the best of all where that is none. Exempt trials do not count, nor does a trial
    that is kept for the audit after the rung where it would have ended. A trial that branched off
    from another one is not asked before, since what it copies is trained already.

    What ended trials left at each rung is kept sorted, so a decision costs the number of trials
    still running, not of those stored. Hence a pruner serves one study.

    Args:
        min_epochs: epochs at the first rung.
        reduction_factor: one trial in so many survives a rung.

    Source: Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning.
    """

    def __init__(self, min_epochs: int, reduction_factor: int) -> None:
        self._min_epochs = min_epochs
        self._reduction_factor = reduction_factor
        self._ended: defaultdict[int, list[float]] = defaultdict(list)
        self._unended: list[int] = []
        self._seen = 0

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial ends here: only at a rung."""
        epochs = trial.last_step
        if epochs is None or is_exempt(trial) or epochs not in self._rungs(epochs):
            return False
        if epochs <= trial.user_attrs.get(FROM_EPOCH, 0):
            return False
        sign = 1.0 if study.direction is StudyDirection.MINIMIZE else -1.0
        own = sign * trial.intermediate_values[epochs]
        if math.isnan(own):
            return True
        trials = study.get_trials(deepcopy=False)
        self._take_in(trials, sign)
        running = [
            value
            for number in self._unended
            if number != trial.number and _counts(trials[number], epochs)
            for value in [sign * trials[number].intermediate_values.get(epochs, math.nan)]
            if not math.isnan(value)
        ]
        ended = self._ended[epochs]
        better = bisect_left(ended, own) + sum(value < own for value in running)
        reached = len(ended) + len(running) + 1
        return better >= max(1, reached // self._reduction_factor)

    def _take_in(self, trials: Sequence[FrozenTrial], sign: float) -> None:
        """Sort in what the trials that ended since the last look had at each rung."""
        looked_at = [*self._unended, *range(self._seen, len(trials))]
        self._unended = []
        self._seen = len(trials)
        for number in looked_at:
            trial = trials[number]
            if not trial.state.is_finished():
                self._unended.append(number)
                continue
            for rung in self._rungs(trial.last_step or 0):
                if _counts(trial, rung):
                    value = sign * trial.intermediate_values.get(rung, math.nan)
                    if not math.isnan(value):
                        insort(self._ended[rung], value)

    def _rungs(self, epochs: int) -> Iterator[int]:
        """Yield the rungs up to a number of epochs."""
        rung = self._min_epochs
        while rung <= epochs:
            yield rung
            rung *= self._reduction_factor


def _counts(trial: FrozenTrial, rung: int) -> bool:
    """Tell whether a trial that reached a rung stands there; of a chain its last one does."""
    if is_exempt(trial) or "superseded_by" in trial.user_attrs:
        return False
    return rung <= int(trial.user_attrs.get(WOULD_PRUNE, rung))
