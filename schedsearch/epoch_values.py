"""The values of a plan in one epoch: at its beginning, and at each of its optimizer steps."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from schedsearch.errors import UnknownNameError
from schedsearch.schedules import Feedback, to_table

if TYPE_CHECKING:
    from schedsearch.plan import Plan, PlanState

#: The value of a hyperparameter in an epoch: one number, or one for each optimizer step.
StepValues: TypeAlias = float | tuple[float, ...]
#: The steps of an epoch at which values are compared whose real number of steps is not known.
_COMPARED_STEPS = 16


class NamedValues(dict[str, float]):
    """Values by hyperparameter; an unknown name raises an error that has the known ones.

    >>> NamedValues(lr=0.1)["learning_rate"]
    Traceback (most recent call last):
    ...
    schedsearch.errors.UnknownNameError: there is no hyperparameter `learning_rate`: \
the names are lr
    """

    def __missing__(self, name: object) -> float:
        raise UnknownNameError(name, self)

    def __reduce__(self) -> tuple[Any, ...]:
        # In a checkpoint it is a class that torch.load accepts with weights_only=True.
        return OrderedDict, (list(self.items()),)

    def __deepcopy__(self, memo: object) -> dict[str, float]:
        return dict(self)


class EpochValues(Mapping[str, float]):
    """The values of a resolved plan in the epoch that follows a state.

    As a mapping, it holds the values at the beginning of the epoch.

    >>> from schedsearch.plan import Plan
    >>> from schedsearch.schedules import Linear
    >>> plan = Plan({("lr",): Linear(initial=1.0, final=0.0, duration=2)}, intervals={"lr": "step"})
    >>> plan = plan.resolve(horizon=2, seed=0)
    >>> values = EpochValues(plan, plan.start())
    >>> values["lr"], values.at(0.5), values.by_step(4)
    (1.0, {'lr': 0.75}, {'lr': (1.0, 0.875, 0.75, 0.625)})

    Args:
        plan: resolved.
        state: before the epoch.

    Attributes:
        plan: resolved.
        state: before the epoch.
        beginning: the values at the beginning of the epoch.
    """

    def __init__(self, plan: Plan, state: PlanState) -> None:
        self.plan, self.state = plan, state
        self.beginning, self._clamped = plan.evaluate(state)
        self._last: tuple[int, dict[str, StepValues]] | None = None

    def __getitem__(self, name: str) -> float:
        return self.beginning[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.beginning)

    def __len__(self) -> int:
        return len(self.beginning)

    def __repr__(self) -> str:
        return f"EpochValues({self.beginning})"

    @cached_property
    def clamped(self) -> tuple[str, ...]:
        """The hyperparameters that bounds limit in the epoch, of which 16 steps are evaluated."""
        if self.plan.bounds.keys().isdisjoint(self.moving):
            return self._clamped
        steps = fractions_of(_COMPARED_STEPS)
        _, within = self.plan.evaluate_steps(self.state, steps)
        return tuple(dict.fromkeys((*self._clamped, *within)))

    @property
    def moving(self) -> tuple[str, ...]:
        """The hyperparameters whose values may change within the epoch."""
        return self.plan.moving

    def at(self, fraction: float) -> dict[str, float]:
        """Return the values when a part of the epoch, from 0 to less than 1, is over."""
        if not self.moving:
            return dict(self.beginning)
        return self.plan.evaluate(self.state, fraction)[0]

    def by_step(self, steps: int) -> dict[str, StepValues]:
        """Return, for each hyperparameter, one value, or one for each step if they differ.

        Step k of n has the value at the time epoch + k / n.
        """
        if self._last is None or self._last[0] != steps:
            values: dict[str, StepValues] = dict(self.beginning)
            if self.moving:
                by_step, _ = self.plan.evaluate_steps(self.state, fractions_of(steps))
                values |= {
                    name: numbers[0] if len(set(numbers)) == 1 else tuple(numbers)
                    for name, numbers in by_step.items()
                }
            self._last = steps, values
        return self._last[1]

    @cached_property
    def within_epoch_key(self) -> bytes:
        """Bytes that are equal only if the values within the epoch are equal at every fraction.

        They are for training loops, whose number of steps is not known before they train: the
        schedules that move within the epoch, with their states. Empty if none does. What does not
        move is not in it, since it is in the values at the beginning.
        """
        if not self.moving:
            return b""
        plan = self.plan
        parts = [
            [name, to_table(plan.schedules[name,]), self.state[name], plan.bounds.get(name)]
            for name in sorted(self.moving)
        ]
        # Of version 1 the key is as it was before there were versions.
        added = [plan.version, sorted(plan.whole)] if plan.version > 1 or plan.whole else []
        return json.dumps([*added, *parts]).encode()


def evaluate_epochs(plan: Plan, feedback: Iterable[Feedback]) -> Iterator[EpochValues]:
    """Yield the values of each epoch of a resolved plan, given the feedback of each epoch."""
    state = plan.start()
    for results in feedback:
        yield EpochValues(plan, state)
        state = plan.update(state, results)


def have_same_course(first: Plan, second: Plan, horizon: int) -> bool:
    """Return whether two resolved plans have the same values, apart from rounding.

    Schedules whose values depend on feedback, which is not known, must have the same parameters and
    seeds too, and the values must be the same if the metric is missing, improves or gets worse.
    """
    for names in first.closed_loop:
        ours, theirs = first.schedules[names], second.schedules[names]
        if ours.seeds != theirs.seeds or to_table(ours) != to_table(theirs):
            return False
    return all(_have_same_values(first, second, metrics) for metrics in _compared_metrics(horizon))


def _compared_metrics(horizon: int) -> Iterator[list[float]]:
    """Yield metrics of each epoch: values that stay 0 without a metric may differ later."""
    for change in (math.nan, -1.0, 1.0):
        yield [change * epoch for epoch in range(horizon)]


def _have_same_values(first: Plan, second: Plan, metrics: Sequence[float]) -> bool:
    courses = (evaluate_epochs(plan, map(Feedback, metrics)) for plan in (first, second))
    return all(
        _are_close(values_within_epoch(a), values_within_epoch(b))
        for a, b in zip(*courses, strict=True)
    )


def _are_close(first: Mapping[str, StepValues], second: Mapping[str, StepValues]) -> bool:
    for name, value in first.items():
        ours, theirs = (v if isinstance(v, tuple) else (v,) for v in (value, second[name]))
        steps = max(len(ours), len(theirs))  # an epoch in which a value stays has one
        pairs = zip(ours * (steps // len(ours)), theirs * (steps // len(theirs)), strict=True)
        if not all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) for a, b in pairs):
            return False
    return True


@lru_cache(maxsize=64)
def fractions_of(steps: int) -> tuple[float, ...]:
    """Return the part of an epoch that is over at the beginning of each of its steps.

    >>> fractions_of(4)
    (0.0, 0.25, 0.5, 0.75)
    """
    return tuple(step / steps for step in range(steps))


def within_epoch_key_of(values: Mapping[str, float]) -> bytes:
    """Return `EpochValues.within_epoch_key`; other mappings do not move within an epoch."""
    return values.within_epoch_key if isinstance(values, EpochValues) else b""


def values_within_epoch(values: Mapping[str, float]) -> Mapping[str, StepValues]:
    """Return the values of an epoch as if it had 16 optimizer steps, to compare epochs and plans.

    Other mappings do not move within an epoch, and are returned as they are.
    """
    return values.by_step(_COMPARED_STEPS) if isinstance(values, EpochValues) else values


def values_at_step(values: Mapping[str, StepValues], step: int) -> dict[str, float]:
    """Return the values of one step.

    >>> values_at_step({"lr": (0.1, 0.2), "l1": 3.0}, 1)
    {'lr': 0.2, 'l1': 3.0}
    """
    return {
        name: value[step] if isinstance(value, tuple) else value for name, value in values.items()
    }
