"""The trials of a study as a forecast sees them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from schedsearch.errors import InputError
from schedsearch.forecast.gaussian_process import Array
from schedsearch.forecast.paths import FINE, argument_columns, coarse, path_of, values_key
from schedsearch.forecast.targets import RunName
from schedsearch.plan import Plan
from schedsearch.schedules import Feedback
from schedsearch.space import Space
from schedsearch.storage.attributes import (
    DIVERGED,
    PLAN,
    SEED,
    TAKEN_FROM,
    TERMS,
    is_superseded,
)
from schedsearch.storage.plan_means import is_race_run, plan_key
from schedsearch.storage.recorded_values import recorded_values

#: Trials whose median is the typical feedback, at most.
_MAX_TYPICAL = 250
#: The golden ratio, whose multiples modulo 1 are spread more evenly than those of other numbers.
_GOLDEN = (1 + math.sqrt(5)) / 2


@dataclass(frozen=True, eq=False)
class TrainedPlan:
    """A complete trial, or one that diverged; what takes a while is read only for those in use.

    Attributes:
        final: the value of the objective; lower is better, infinite if the trial diverged.
        parameters: the Optuna parameters of the plan; none for a plan outside of the space.
    """

    final: float
    parameters: Mapping[str, Any]
    _trial: FrozenTrial = field(repr=False)
    _reader: TrainedPlans = field(repr=False)

    @property
    def is_own(self) -> bool:
        """Whether the plan was not taken from an earlier study."""
        return TAKEN_FROM not in self._trial.user_attrs

    @cached_property
    def run(self) -> RunName:
        """The plan, and the further seed with which a race trained it."""
        seed = self._trial.user_attrs.get(SEED) if self.is_race_run else None
        return plan_key(self._trial), seed

    @property
    def is_race_run(self) -> bool:
        """Whether a race trained the plan with a further seed."""
        return is_race_run(self._trial)

    @cached_property
    def curve(self) -> Array:
        """The metric of each epoch; lower is better."""
        return self._reader.curve_of(self._trial, self._reader.horizon)

    @cached_property
    def terms(self) -> Mapping[str, Array]:
        """The loss terms of each epoch."""
        return _terms(self._trial.user_attrs, self._reader.horizon)

    @cached_property
    def known_path(self) -> Array | None:
        """`path`, or None if the plan cannot be read or sets other hyperparameters."""
        plan = self._reader.plan_of(self._trial)
        return None if plan is None else self._reader.path_behind(plan, self.curve, self.terms)

    @property
    def path(self) -> Array:
        """The values over the run, see `path_of`."""
        assert self.known_path is not None
        return self.known_path

    @cached_property
    def coarse_values(self) -> bytes:
        """What is equal for plans with equal coarse paths."""
        return values_key(coarse(self.path[None])[0])

    @cached_property
    def fixed_values(self) -> bytes | None:
        """See `TrainedPlans.fixed_values`; None also if the plan cannot be read."""
        plan = self._reader.plan_of(self._trial)
        return None if plan is None else self._reader.fixed_values(plan)


class TrainedPlans:
    """The complete trials of a study, and those that diverged; each trial is read once.

    Attributes:
        plans: the complete trials.
        diverged: those that ended early with a metric that is not finite.

    Args:
        space: of the study.
    """

    def __init__(self, space: Space) -> None:
        self._space, self.horizon = space, space.horizon
        self.names = tuple(sorted(space.baseline().names))
        self._arguments = argument_columns(space.arguments)
        self.plans: list[TrainedPlan] = []
        self.diverged: list[TrainedPlan] = []
        self._unfinished: list[int] = []
        self._seen = 0
        self._typical: tuple[int, list[Feedback]] = 0, []

    @property
    def count(self) -> int:
        """How many plans are known, those that diverged included."""
        return len(self.plans) + len(self.diverged)

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
            elif DIVERGED in trial.user_attrs and not is_superseded(trial):
                self.diverged.append(TrainedPlan(math.inf, trial.params, trial, self))

    def read(self, trial: FrozenTrial) -> TrainedPlan | None:
        """Return a complete trial; None for others."""
        if trial.state is not TrialState.COMPLETE or is_superseded(trial):
            return None
        reports = trial.intermediate_values
        if trial.value is None or not math.isfinite(trial.value) or not reports:
            return None
        final = self._space.objective.to_minimize(trial.value)
        return TrainedPlan(final, trial.params, trial, self)

    def representative(self, limit: int, *, diverged: bool = False) -> Sequence[TrainedPlan]:
        """Return at most `limit` plans, see `representative`, and forget those without a path.

        Args:
            limit: the number of plans.
            diverged: whether trials that diverged are plans too: the worst ones.
        """
        while True:
            kept = representative(self.plans + (self.diverged if diverged else []), limit)
            unknown = {plan for plan in kept if plan.known_path is None}
            if not unknown:
                return kept
            self.plans = [plan for plan in self.plans if plan not in unknown]
            self.diverged = [plan for plan in self.diverged if plan not in unknown]

    def path_behind(self, plan: Plan, curve: Array, terms: Mapping[str, Array]) -> Array:
        """Return the path of a plan that was trained, with the feedback that it had."""
        feedback = self._feedback(curve, terms)
        return path_of(plan, self.names, self.horizon, feedback, arguments=self._arguments)

    def fixed_values(self, plan: Plan) -> bytes | None:
        """Return what is equal for plans with the same values in each epoch.

        None: the values depend on the feedback, or the plan sets other hyperparameters. A
        closed-loop schedule has fixed values if it stays the same while the metric rises from far
        below 0 to far above, and while it falls back, as at a bound that it never leaves, and if it
        follows no loss term.

        Args:
            plan: resolved.
        """
        if not set(self.names) <= set(plan.names):
            return None
        found = set()
        for course in (1.0,) if plan.is_closed_form else (1.0, -1.0):
            terms = _WatchedTerms()
            metrics = (course * (np.arange(self.horizon) - self.horizon / 2)).tolist()
            feedback = [Feedback(metric, self._metrics(metric), terms) for metric in metrics]
            path = path_of(
                plan,
                self.names,
                self.horizon,
                feedback,
                points=self.horizon,
                arguments=self._arguments,
            )
            if terms.were_read:
                return None
            found.add(values_key(path))
        return found.pop() if len(found) == 1 else None

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

    def path_ahead(self, plan: Plan, curve: Sequence[float], *, points: int = FINE) -> Array:
        """Return the path of a plan that has trained some epochs, or none.

        Closed-loop schedules go on with the typical course of the study, shifted to begin at the
        run's last metric.

        Args:
            plan: resolved.
            curve: the metric of the epochs trained; lower is better.
            points: see `path_of`.
        """
        feedback = self._expected_feedback(curve) if curve else self.typical_feedback
        return path_of(
            plan, self.names, self.horizon, feedback, points=points, arguments=self._arguments
        )

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
        """The median feedback of the complete trials in each epoch, of some if they are many."""
        count, feedback = self._typical
        if not self.plans:
            return [Feedback(math.nan)]
        if not feedback or len(self.plans) >= 2 * count:
            plans = representative(self.plans, _MAX_TYPICAL)
            curve = np.median([plan.curve for plan in plans], axis=0)
            names = set.intersection(*(set(plan.terms) for plan in plans))
            terms = {n: np.median([p.terms[n] for p in plans], axis=0) for n in sorted(names)}
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


class _WatchedTerms(dict[str, float]):
    """Unknown loss terms, and whether a schedule reads any."""

    were_read = False

    def get(self, name: str, default: Any = math.nan) -> Any:
        """Return the default, and remember that a term was read."""
        self.were_read = True
        return default


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
    finals = np.fromiter((plan.final for plan in plans), float, len(plans))
    best, others = np.split(np.argsort(finals, kind="stable"), [limit // 2])
    spread = others[np.argsort(others * _GOLDEN % 1, kind="stable")]
    chosen = np.sort(np.concatenate([best, spread[: limit - len(best)]]))
    return [plans[i] for i in chosen.tolist()]
