"""Pruning by the forecast: a trial stops if it has hardly a chance to become one of the best."""

from __future__ import annotations

import heapq
import math

import numpy as np
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from schedsearch.forecast import RunForecast, TrainedPlans, part
from schedsearch.forecast.gaussian_process import Array
from schedsearch.plan import Plan
from schedsearch.schedules.durations import to_epochs
from schedsearch.space import Space
from schedsearch.space.document import FORECAST_RANK
from schedsearch.storage.attributes import FROM_EPOCH
from schedsearch.storage.pruned_view import whole_trials

#: Complete trials that a model is fitted to, at most.
_MAX_PLANS = 120
#: Trials in training whose plans are remembered, at most.
_MAX_RUNNING = 1024
#: Points of a path before and after the present epoch.
_BEHIND, _AHEAD = 6, 8


class ForecastPruner(BasePruner):
    """Stops a trial whose chance to beat the third best complete trial is small.

    P(final value better than that of the third best) < chance

    The probability is that of `RunForecast`, fitted to complete trials, constants and audited ones
    included. The third best is that of the study's own seeds: those of a race may be easier. So
    schedules that cross are no obstacle: a rate that will fall is forecast to improve when it
    falls. Where the forecast is uncertain, the trial goes on. Use one pruner per study.

    Args:
        space: of the study; `search.pruner` has the options.
    """

    def __init__(self, space: Space) -> None:
        options = space.search.pruner
        self._space = space
        self._chance = options.chance
        self._begin = options.min_epochs
        self._every = max(1, to_epochs(options.every, space.horizon, space.schedule_version))
        self._startup_trials = options.complete_before_forecast
        self._trained = TrainedPlans(space)
        #: By trial, the plan, and its path if it depends on nothing else; None: it has no forecast.
        self._plans: dict[int, tuple[Plan, Array | None] | None] = {}
        #: By epoch, the model and the number of complete trials when it was fitted.
        self._models: dict[int, tuple[RunForecast, int]] = {}

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether to prune the trial."""
        epochs = trial.last_step
        if epochs is None or not self._is_decided_at(epochs, trial):
            return False
        if math.isnan(trial.intermediate_values[epochs]):
            return True
        found = self._read(study, trial, epochs)
        if found is None or (third := self._third_best()) is None:
            return False
        if (best := self._best_so_far(found)) is not None and best < third:
            return False
        if (model := self._model(epochs, third)) is None:
            return False
        chance = model.chance(*found, third)
        return bool(chance[0] < self._chance)

    def forecast(self, study: Study, trial: FrozenTrial) -> tuple[float, float, float] | None:
        """Return the 5 %, 50 % and 95 % quantiles of the final value; None if it does not decide.

        It decides every few epochs, once enough trials are complete.
        """
        epochs = trial.last_step
        if epochs is None or not self._is_decided_at(epochs, trial):
            return None
        found = self._read(study, trial, epochs)
        if found is None or (third := self._third_best()) is None:
            return None
        if (model := self._model(epochs, third)) is None:
            return None
        values = model.quantiles(*found, (0.05, 0.5, 0.95))[0]
        if (best := self._best_so_far(found)) is not None:
            values = np.minimum(values, best)
        if not np.isfinite(values).all():
            return None
        low, median, high = sorted(self._space.objective.to_minimize(float(v)) for v in values)
        return low, median, high

    def _is_decided_at(self, epochs: int, trial: FrozenTrial) -> bool:
        is_in_step = epochs >= self._begin and (epochs - self._begin) % self._every == 0
        return is_in_step and trial.user_attrs.get(FROM_EPOCH, 0) < epochs < self._space.horizon

    def _read(
        self, study: Study, trial: FrozenTrial, epochs: int
    ) -> tuple[Array, Array, Array] | None:
        """Return the path behind, the path ahead and the curve; None if there is no forecast."""
        self._trained.update(whole_trials(study))
        if len(self._trained.plans) < self._startup_trials:
            return None
        if (found := self._plan_of(trial)) is None:
            return None
        plan, path = found
        curve = self._trained.curve_of(trial, epochs)
        if path is None:
            path = self._trained.path_ahead(plan, curve.tolist())
        behind, ahead = self._parts(path[None], epochs)
        return behind, ahead, curve[None]

    def _plan_of(self, trial: FrozenTrial) -> tuple[Plan, Array | None] | None:
        """Return what `_plans` has of a trial; each is read once, as a trial has many decisions."""
        if trial.number not in self._plans:
            if len(self._plans) == _MAX_RUNNING:
                del self._plans[next(iter(self._plans))]
            plan = self._trained.plan_of(trial)
            path = self._trained.path_ahead(plan, ()) if plan and plan.is_closed_form else None
            self._plans[trial.number] = (plan, path) if plan else None
        return self._plans[trial.number]

    def _third_best(self) -> float | None:
        """Return the final value to beat; None if there is none yet."""
        own = (trained.final for trained in self._trained.plans if not trained.is_race_run)
        best = heapq.nsmallest(FORECAST_RANK, own)
        return best[-1] if len(best) == FORECAST_RANK else None

    def _best_so_far(self, found: tuple[Array, Array, Array]) -> float | None:
        """Return the value that a trial has already, if its best epoch counts."""
        return float(found[2].min()) if self._space.objective.value == "best" else None

    def _model(self, epochs: int, third: float) -> RunForecast | None:
        """Return the model at an epoch, fitted again when there are an eighth more trials.

        It is also fitted again if its scale does not have the value to beat. None: the plans of too
        many trials cannot be read.
        """
        count = len(self._trained.plans)
        model, fitted = self._models.get(epochs, (None, 0))
        if model is None or count >= 9 / 8 * fitted or not model.scale.has(third):
            plans = self._trained.representative(_MAX_PLANS)
            if (count := len(self._trained.plans)) < self._startup_trials:
                return None
            behind, ahead = self._parts(np.array([plan.path for plan in plans]), epochs)
            curves = np.array([plan.curve[:epochs] for plan in plans])
            finals = np.array([plan.final for plan in plans])
            model = RunForecast.fit(behind, ahead, curves, finals)
            self._models[epochs] = model, count
        return model

    def _parts(self, paths: Array, epochs: int) -> tuple[Array, Array]:
        """Return the points of paths before and after an epoch."""
        share = epochs / self._space.horizon
        return part(paths, 0, share, _BEHIND), part(paths, share, 1, _AHEAD)
