"""Sampled schedules of a space, run against a made-up training.

Schedules that follow the validation metric or the loss terms need some to follow. The training made
up here falls fast, then slowly, with noise and a plateau, as many do; it says nothing about the
user's own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from schedsearch.errors import InputError
from schedsearch.plan import Plan
from schedsearch.schedules import Feedback
from schedsearch.space import Space
from schedsearch.space.choosers import RandomChooser
from schedsearch.space.templates import Range, Several, texts_of

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
    feedback = _made_up(space, seed)
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
    groups = (g for g, group in space.document.groups.items() if name in group.members)
    families = space.families.get(next(groups, name))
    constant = families.options.get("constant") if families else None
    template = constant.of.get("value") if constant else None
    ranges = template.items if isinstance(template, Several) else (template,)
    log = any(isinstance(item, Range) and item.log for item in ranges)
    return Axis(min(values), max(values), log and min(values) > 0)


class _InTurn(RandomChooser):
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


def _made_up(space: Space, seed: int) -> list[Feedback]:
    """Return the feedback of a plausible training: every quantity falls to a floor, with noise."""
    names = [*space.document.hyperparameters]
    names.extend(m for group in space.document.groups.values() for m in group.members)
    terms = {name.removeprefix("weights.") for name in names if name.startswith("weights.")}
    for families in space.families.values():
        terms.update(texts_of(families, "term"))
    metric = _falling(space.horizon, random.Random(f"{seed} metric"))
    by_term = {
        term: _falling_term(space.horizon, random.Random(f"{seed} {term}")) for term in terms
    }
    return [
        Feedback(
            metric[epoch],
            {space.objective.metric: space.objective.lower_is_better(metric[epoch])},
            {term: values[epoch] for term, values in by_term.items()},
        )
        for epoch in range(space.horizon)
    ]


def _falling_term(horizon: int, draw: random.Random) -> list[float]:
    """Return a curve of its own size and speed: loss terms differ in both."""
    size, power = 10 ** draw.uniform(-1, 1), 2 ** draw.uniform(-1, 1)
    return [size * value**power for value in _falling(horizon, draw)]


def _falling(horizon: int, draw: random.Random) -> list[float]:
    """Return a curve from about 1 to about 0.2: a fast fall, a plateau, a slower fall, noise."""
    fast, slow = horizon * draw.uniform(0.05, 0.12), horizon * draw.uniform(0.3, 0.6)
    begins, lasts = horizon * draw.uniform(0.25, 0.4), horizon * draw.uniform(0.15, 0.25)
    curve = []
    for epoch in range(horizon):
        # The plateau is time that stands still.
        time = epoch - min(max(epoch - begins, 0.0), lasts)
        level = 0.2 + 0.5 * math.exp(-time / fast) + 0.3 * math.exp(-time / slow)
        curve.append(level * (1 + 0.02 * draw.gauss(0, 1)))
    return curve
