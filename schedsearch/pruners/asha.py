"""Asynchronous successive halving, without the trials that are trained in full."""

from __future__ import annotations

import math

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from schedsearch.pruners.exempt import is_exempt


class AshaPruner(BasePruner):
    """Prunes at rungs all but the best one in `reduction_factor` of the trials that reached them.

    Rung k stands at min_epochs * reduction_factor ** k epochs. A trial that reaches one goes on if
    it is among the best floor(n / reduction_factor) of the n trials seen there so far, itself
    included, or the best of all where that is none. Exempt trials do not count.

    Args:
        min_epochs: epochs at the first rung.
        reduction_factor: one trial in so many survives a rung.

    Source: Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning.
    """

    def __init__(self, min_epochs: int, reduction_factor: int) -> None:
        self._min_epochs = min_epochs
        self._reduction_factor = reduction_factor

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Tell whether the trial ends here: only at a rung."""
        epochs = trial.last_step
        if epochs is None or is_exempt(trial) or not self._is_rung(epochs):
            return False
        sign = 1.0 if study.direction is StudyDirection.MINIMIZE else -1.0
        own = sign * trial.intermediate_values[epochs]
        if math.isnan(own):
            return True
        better = others = 0
        for other in study.get_trials(deepcopy=False):
            value = sign * other.intermediate_values.get(epochs, math.nan)
            if other.number == trial.number or math.isnan(value) or is_exempt(other):
                continue
            if "superseded_by" in other.user_attrs:
                continue  # its successor stands at this rung for both
            others += 1
            better += value < own
        return better >= max(1, (others + 1) // self._reduction_factor)

    def _is_rung(self, epochs: int) -> bool:
        rung = self._min_epochs
        while rung < epochs:
            rung *= self._reduction_factor
        return rung == epochs
