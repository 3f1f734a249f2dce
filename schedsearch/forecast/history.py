"""The trials of a study as a forecast sees them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from schedsearch.errors import InputError
from schedsearch.forecast.gaussian_process import Array
from schedsearch.forecast.paths import argument_columns, path_of
from schedsearch.plan import Plan
from schedsearch.schedules import Feedback
from schedsearch.space import Space
from schedsearch.storage.attributes import PLAN, TERMS, is_superseded
from schedsearch.storage.recorded_values import recorded_values

#: The golden ratio, whose multiples modulo 1 are spread more evenly than those of other numbers.
_GOLDEN = (1 + math.sqrt(5)) / 2


@dataclass(frozen=True)
class TrainedPlan:
    """A complete trial.

    Attributes:
        curve: the metric of each epoch; lower is better.
        terms: the loss terms of each epoch.
        final: the value of the objective; lower is better.
        parameters: the Optuna parameters of the plan; none for a plan outside of the space.
        compute_path: computes `path`.
    """

    curve: Array
    terms: Mapping[str, Array]
    final: float
    parameters: Mapping[str, Any]
    compute_path: Callable[[], Array] = field(repr=False)

    @cached_property
    def path(self) -> Array:
        """The values over the run, see `path_of`: computed only for the plans that a model uses."""
        return self.compute_path()


class TrainedPlans:
    """The complete trials of a study; each trial is read once.

    Args:
        space: of the study.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self.names = tuple(sorted(space.baseline().names))
        self._arguments = argument_columns(space.arguments)
        self.plans: list[TrainedPlan] = []
        self._unfinished: list[int] = []
        self._seen = 0
        self._typical: tuple[int, list[Feedback]] = 0, []

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Read the trials that finished since the last update; `trials` are all of the study."""
        by_number = {trial.number: trial for trial in trials[self._seen :]}
        by_number |= {number: trials[number] for number in self._unfinished if number < len(trials)}
        self._unfinished = []
        self._seen = len(trials)
        for number, trial in sorted(by_number.items()):
            if not trial.state.is_finished():
                self._unfinished.append(number)
            elif found := self.read(trial):
                self.plans.append(found)

    def read(self, trial: FrozenTrial) -> TrainedPlan | None:
        """Return a complete trial; None for others, and if it sets other hyperparameters."""
        if trial.state is not TrialState.COMPLETE or is_superseded(trial):
            return None
        plan = self.plan_of(trial)
        reports = trial.intermediate_values
        if plan is None or trial.value is None or not math.isfinite(trial.value) or not reports:
            return None
        horizon = self._space.horizon
        curve, terms = self.curve_of(trial, horizon), _terms(trial.user_attrs, horizon)
        final = self._space.objective.to_minimize(trial.value)
        return TrainedPlan(
            curve, terms, final, trial.params, lambda: self._path_of(trial, curve, terms)
        )

    def _path_of(self, trial: FrozenTrial, curve: Array, terms: Mapping[str, Array]) -> Array:
        # The plan is parsed again: to keep those of all trials would take more memory.
        plan = self.plan_of(trial)
        assert plan is not None
        feedback = self._feedback(curve, terms)
        horizon = self._space.horizon
        return path_of(plan, self.names, horizon, feedback, arguments=self._arguments)

    def curve_of(self, trial: FrozenTrial, epochs: int) -> Array:
        """Return the metric of each of the first epochs, lower is better.

        An epoch without a finite metric has that of the epoch before it.
        """
        reports = trial.intermediate_values
        filled = _filled([reports.get(epoch, math.nan) for epoch in range(1, epochs + 1)])
        return np.array([self._space.objective.to_minimize(metric) for metric in filled])

    def plan_of(self, trial: FrozenTrial) -> Plan | None:
        """Return the resolved plan of a trial; None if it sets other hyperparameters."""
        try:
            plan = Plan.from_tables(trial.user_attrs[PLAN])
            plan = plan.resolve(self._space.horizon, self._space.search.seed)
        except (InputError, KeyError):
            return None
        return plan if set(self.names) <= set(plan.names) else None

    def path_ahead(self, plan: Plan, curve: Sequence[float], *, fine: bool = True) -> Array:
        """Return the path of a plan that has trained some epochs, or none.

        Closed-loop schedules go on with the typical course of the study, shifted to begin at the
        run's last metric.

        Args:
            plan: resolved.
            curve: the metric of the epochs trained; lower is better.
            fine: see `path_of`.
        """
        feedback = self._expected_feedback(curve) if curve else self.typical_feedback
        horizon = self._space.horizon
        return path_of(plan, self.names, horizon, feedback, fine=fine, arguments=self._arguments)

    def _expected_feedback(self, curve: Sequence[float]) -> list[Feedback]:
        """Return the feedback of a run that has trained some epochs, then the typical course."""
        typical = self.typical_feedback
        begun = [
            Feedback(metric, self._metrics(metric), typical[min(e, len(typical) - 1)].terms)
            for e, metric in enumerate(curve)
        ]
        later = typical[len(curve) :]
        shift = curve[-1] - typical[len(curve) - 1].metric if later else 0.0
        metrics = [feedback.metric + shift for feedback in later]
        return begun + [
            Feedback(metric, self._metrics(metric), feedback.terms)
            for metric, feedback in zip(metrics, later, strict=True)
        ]

    @property
    def typical_feedback(self) -> list[Feedback]:
        """The median of the complete trials' feedback in each epoch."""
        count, feedback = self._typical
        if not self.plans:
            return [Feedback(math.nan)]
        if not feedback or len(self.plans) >= 2 * count:
            curve = np.median([plan.curve for plan in self.plans], axis=0)
            names = set.intersection(*(set(plan.terms) for plan in self.plans))
            terms = {n: np.median([p.terms[n] for p in self.plans], axis=0) for n in sorted(names)}
            feedback = self._feedback(curve, terms)
            self._typical = len(self.plans), feedback
        return feedback

    def _feedback(self, curve: Array, terms: Mapping[str, Array]) -> list[Feedback]:
        by_name = {name: values.tolist() for name, values in terms.items()}
        return [
            Feedback(metric, self._metrics(metric), {n: v[epoch] for n, v in by_name.items()})
            for epoch, metric in enumerate(curve.tolist())
        ]

    def _metrics(self, metric: float) -> dict[str, float]:
        return {self._space.objective.metric: self._space.objective.to_minimize(metric)}


def _terms(attributes: Mapping[str, Any], horizon: int) -> dict[str, Array]:
    """Return the loss terms that a trial recorded, by epoch."""
    recorded = recorded_values(attributes, TERMS, horizon)
    return {name: _filled(values) for name, values in recorded.items()}


def _filled(values: Sequence[float]) -> Array:
    """Return numbers in which each missing one has the value before it; the first ones the next."""
    numbers = np.array(values, dtype=float)
    known = np.flatnonzero(np.isfinite(numbers))
    if not len(known):
        return np.zeros_like(numbers)
    before = np.searchsorted(known, np.arange(len(numbers)), side="right") - 1
    filled: Array = numbers[known[np.maximum(before, 0)]]
    return filled


def representative(plans: Sequence[TrainedPlan], limit: int) -> Sequence[TrainedPlan]:
    """Return at most `limit` plans: one half the best, the others spread over the study.

    The others are those with the smallest multiples of the golden ratio, modulo 1. So they are
    spread evenly, and with more plans nearly the same ones: the path of a plan takes a while.
    """
    if len(plans) <= limit:
        return plans
    ranked = sorted(range(len(plans)), key=lambda i: plans[i].final)
    best = ranked[: limit // 2]
    others = sorted(ranked[limit // 2 :], key=lambda i: i * _GOLDEN % 1)
    return [plans[i] for i in sorted([*best, *others[: limit - len(best)]])]
