"""Sampled schedules of a space, run against a made-up training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from schedsearch.errors import InputError
from schedsearch.plan import Plan
from schedsearch.schedules import Feedback
from schedsearch.space import Space
from schedsearch.space.domains import ListDomain, Range
from schedsearch.space.suggesters import RandomSuggester
from schedsearch.space.synthetic_feedback import synthetic_feedback

#: How often a plan whose parameters break a rule between them is drawn again.
_TRIES = 100


@dataclass(frozen=True)
class Curve:
    """One sampled schedule: a hyperparameter's values in force, by epoch.

    `follows` tells whether the made-up training has moved it.
    """

    hyperparameter: str
    family: str
    values: tuple[float, ...]
    follows: bool


@dataclass(frozen=True)
class Axis:
    """The vertical axis that all panels of one hyperparameter share."""

    low: float
    high: float
    log: bool


@dataclass(frozen=True)
class Preview:
    """Sampled schedules, and the made-up validation metric that the closed-loop ones followed."""

    curves: tuple[Curve, ...]
    axes: Mapping[str, Axis]
    metric: tuple[float, ...]

    @property
    def follows(self) -> bool:
        """Whether the made-up training has moved any schedule."""
        return any(curve.follows for curve in self.curves)

    def panels(self) -> Iterator[tuple[str, list[tuple[str, list[Curve]]]]]:
        """Yield each hyperparameter with its families, and each family with its curves."""
        for hyperparameter, of_one in groupby(self.curves, lambda curve: curve.hyperparameter):
            by_family: dict[str, list[Curve]] = {}
            for curve in of_one:
                by_family.setdefault(curve.family, []).append(curve)
            yield hyperparameter, list(by_family.items())


def sample(space: Space, count: int, seed: int) -> Preview:
    """Draw plans from a space, and run them against a made-up training.

    Every family has its turn; of a config there is one plan only. A hyperparameter without a
    default in the file is left out.

    Raises:
        InputError: no drawn plan keeps the rules between its parameters.
    """
    drawn = [_draw(space, i, seed) for i in range(1 if space.is_config else count)]
    feedback = synthetic_feedback(space, seed)
    unmoved = [Feedback(math.nan)] * len(feedback)
    searched = _searched(space)
    moving = [name for name in drawn[0].names if space.is_config or name in searched]
    curves = []
    for plan in drawn:
        resolved = plan.resolve(space.horizon, seed)
        values, held = _run(resolved, feedback), _run(resolved, unmoved)
        for name in moving:
            family = _family_of(plan, name)
            curves.append(Curve(name, family, values[name], values[name] != held[name]))
    curves.sort(key=lambda curve: moving.index(curve.hyperparameter))
    axes = {name: _axis(space, name, curves) for name in moving}
    return Preview(tuple(curves), axes, tuple(epoch.metric for epoch in feedback))


def _axis(space: Space, name: str, curves: Sequence[Curve]) -> Axis:
    """Return an axis that holds all curves; logarithmic where constants are drawn so."""
    values = [v for curve in curves if curve.hyperparameter == name for v in curve.values]
    return Axis(min(values), max(values), is_logarithmic(space, name) and min(values) > 0)


def is_logarithmic(space: Space, name: str) -> bool:
    """Tell whether a hyperparameter's constants are drawn on a logarithmic scale."""
    groups = (g for g, group in space.document.groups.items() if name in group.members)
    families = space.families.get(next(groups, name))
    constant = families.options.get("constant") if families else None
    domain = constant.domains.get("value") if constant else None
    ranges = domain.items if isinstance(domain, ListDomain) else (domain,)
    return any(isinstance(item, Range) and item.log for item in ranges)


class _InTurn(RandomSuggester):
    """Draws at random, but the families of a hyperparameter one after the other."""

    def __init__(self, seed: str, turns: Mapping[str, int]) -> None:
        super().__init__(seed)
        self._turns = turns

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        if name in self._turns:
            return choices[self._turns[name] % len(choices)]
        return super().suggest_categorical(name, choices)


def _draw(space: Space, i: int, seed: int) -> Plan:
    turns = {f"{name}.family": i for name in space.searched()}
    refused: InputError | None = None
    for attempt in range(_TRIES):
        try:
            plan = space.suggest(_InTurn(f"{seed} {i} {attempt}", turns))
            plan.resolve(space.horizon, seed)
            return plan
        except InputError as error:
            refused = error
    raise InputError(
        f"{space.name}: no drawn plan keeps the rules between its parameters: {refused}"
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


def _run(plan: Plan, feedback: Sequence[Feedback]) -> dict[str, tuple[float, ...]]:
    state, history = plan.start(), []
    for epoch in feedback:
        history.append(plan.values(state))
        state = plan.update(state, epoch)
    return {name: tuple(values[name] for values in history) for name in plan.names}
