"""Sampled schedules of a space, evaluated against a synthetic training curve."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from schedsearch.epoch_values import StepValues, evaluate_epochs
from schedsearch.errors import InputError
from schedsearch.plan import Plan
from schedsearch.report.text import describe_families
from schedsearch.report.value_axis import Axis, axis_for, is_logarithmic
from schedsearch.schedules import Feedback
from schedsearch.space import Space
from schedsearch.space.suggesters import RandomSuggester
from schedsearch.space.synthetic_feedback import synthetic_feedback

#: How often a plan is sampled again if its parameters break a rule between them.
_ATTEMPTS = 100
#: At least so many values are drawn of a value that changes at each step.
_POINTS = 400


@dataclass(frozen=True)
class Curve:
    """One sampled schedule.

    Attributes:
        hyperparameter: its name.
        family: the family of the schedule.
        schedule: the schedule with its parameters, as text.
        values: the values in force, in time.
        per_epoch: the number of values in each epoch; 1 if the value changes at epochs.
        is_closed_loop: whether the values depend on the synthetic training curve.
    """

    hyperparameter: str
    family: str
    schedule: str
    values: tuple[float, ...]
    per_epoch: int
    is_closed_loop: bool


@dataclass(frozen=True)
class Preview:
    """Sampled schedules, and the synthetic validation metric that drives the closed-loop ones."""

    space: str
    horizon: int
    curves: tuple[Curve, ...]
    axes: Mapping[str, Axis]
    metric: tuple[float, ...]
    #: What each argument of the task may be, as text.
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_closed_loops(self) -> bool:
        """Whether any schedule depends on the synthetic training curve."""
        return any(curve.is_closed_loop for curve in self.curves)

    def panels(self) -> Iterator[tuple[str, list[tuple[str, list[Curve]]]]]:
        """Yield each hyperparameter with its families, and each family with its curves."""
        for hyperparameter, curves in groupby(self.curves, lambda curve: curve.hyperparameter):
            by_family: dict[str, list[Curve]] = {}
            for curve in curves:
                by_family.setdefault(curve.family, []).append(curve)
            yield hyperparameter, list(by_family.items())

    def to_json(self) -> dict[str, Any]:
        """Return the document that `preview --json` prints."""
        return {
            "space": self.space,
            "horizon": self.horizon,
            "hyperparameters": {
                hyperparameter: [
                    {
                        "family": curve.family,
                        "schedule": curve.schedule,
                        "closed_loop": curve.is_closed_loop,
                        "values_per_epoch": curve.per_epoch,
                        "values": curve.values,
                    }
                    for _, curves in families
                    for curve in curves
                ]
                for hyperparameter, families in self.panels()
            },
            "arguments": dict(self.arguments),
            "synthetic_metric": self.metric if self.has_closed_loops else None,
        }


def sample_preview(space: Space, count: int, seed: int) -> Preview:
    """Sample plans from a space, and evaluate them against a synthetic training curve.

    The families of a hyperparameter take turns. A config gives its one plan. Hyperparameters
    without a default in the file are left out.

    Raises:
        InputError: every sampled plan breaks a rule between its parameters.
    """
    plans = [_sample_plan(space, i, seed) for i in range(1 if space.is_config else count)]
    feedback = synthetic_feedback(space, seed)
    no_feedback = [Feedback(math.nan)] * len(feedback)
    searched = _searched(space)
    shown = [name for name in plans[0].names if space.is_config or name in searched]
    curves = []
    for plan in plans:
        resolved = plan.resolve(space.horizon, seed)
        values, open_loop = _evaluate(resolved, feedback), _evaluate(resolved, no_feedback)
        for name in shown:
            family = _family_of(plan, name)
            depends = values[name] != open_loop[name]
            schedule = _describe_schedule(plan, name)
            curves.append(Curve(name, family, schedule, *values[name], is_closed_loop=depends))
    curves.sort(key=lambda curve: shown.index(curve.hyperparameter))
    axes = {
        name: axis_for(
            [curve.values for curve in curves if curve.hyperparameter == name],
            log=is_logarithmic(space, name),
        )
        for name in shown
    }
    return Preview(
        space.name,
        space.horizon,
        tuple(curves),
        axes,
        tuple(epoch.metric for epoch in feedback),
        {name: str(domain) for name, domain in space.arguments.items()},
    )


class _FamiliesInTurn(RandomSuggester):
    """Samples at random, except that the families of a hyperparameter take turns."""

    def __init__(self, seed: str, turns: Mapping[str, int]) -> None:
        super().__init__(seed)
        self._turns = turns

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        if name in self._turns:
            return choices[self._turns[name] % len(choices)]
        return super().suggest_categorical(name, choices)


def _sample_plan(space: Space, i: int, seed: int) -> Plan:
    turns = {f"{name}.family": i for name in space.searched()}
    failure: InputError | None = None
    for attempt in range(1 if space.is_config else _ATTEMPTS):
        try:
            plan = space.suggest(_FamiliesInTurn(f"{seed} {i} {attempt}", turns))
            plan.resolve(space.horizon, seed)
            return plan
        except InputError as error:
            failure = error
    if space.is_config and failure is not None:
        raise failure
    raise InputError(
        f"every sampled plan breaks a rule between its parameters, the last one: {failure}"
    )


def _searched(space: Space) -> set[str]:
    searched = space.searched()
    members = {
        member
        for name, group in space.document.groups.items()
        if name in searched
        for member in group.members
    }
    return members | set(searched)


def _family_of(plan: Plan, name: str) -> str:
    return next(schedule.family for names, schedule in plan.schedules.items() if name in names)


def _describe_schedule(plan: Plan, name: str) -> str:
    tables = plan.to_tables()
    for group in tables.get("groups", {}).values():
        if name in group["members"]:
            return describe_families(group["families"])
    return describe_families(tables["hyperparameters"][name]["families"])


def _evaluate(plan: Plan, feedback: Sequence[Feedback]) -> dict[str, tuple[tuple[float, ...], int]]:
    """Return the values of each hyperparameter, and how many there are in each epoch."""
    steps = points_per_epoch(len(feedback))
    history = [values.by_step(steps) for values in evaluate_epochs(plan, feedback)]
    per_epoch = {name: steps if name in plan.intervals else 1 for name in plan.names}
    return {
        name: (
            tuple(v for values in history for v in each_step(values[name], per_epoch[name])),
            per_epoch[name],
        )
        for name in plan.names
    }


def points_per_epoch(horizon: int) -> int:
    """Return how many values of an epoch are drawn of a value that changes at each step."""
    return math.ceil(_POINTS / horizon)


def each_step(values: StepValues, steps: int) -> tuple[float, ...]:
    """Return a value for each of so many steps."""
    return values if isinstance(values, tuple) else (values,) * steps
