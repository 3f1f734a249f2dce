"""A plan: the schedules of all hyperparameters of one training; and a plan in motion."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias

from schedsearch.errors import InputError
from schedsearch.schedules import (
    Constant,
    Feedback,
    GroupSchedule,
    Schedule,
    State,
    from_table,
    to_table,
)

Direction: TypeAlias = Literal["minimize", "maximize"]
Bounds: TypeAlias = tuple[float, float]
#: One state per schedule, under the names that it moves. Plain data that survives JSON.
PlanState: TypeAlias = Mapping[str, State]


@dataclass(frozen=True)
class Plan:
    """The schedules of one training, each under the names of the hyperparameters that it moves.

    `bounds` clamp whatever a schedule says. Plans compare, hash, and survive `to_tables`:

    >>> from schedsearch.schedules import Exponential
    >>> plan = Plan({("l2",): Exponential(initial=1.0, decay_rate=0.5)}, bounds={"l2": (0.3, 1.0)})
    >>> state = plan.start()
    >>> for epoch in range(3):
    ...     print(*plan.evaluate(state))
    ...     state = plan.update(state, Feedback(metric=0.1))
    {'l2': 1.0} ()
    {'l2': 0.5} ()
    {'l2': 0.3} ('l2',)
    >>> Plan.from_tables(plan.to_tables()) == plan
    True

    Raises:
        InputError: two schedules move one hyperparameter, a schedule reads one that the plan does
            not hold, schedules wait for each other in a cycle, or bounds are not low to high.
    """

    schedules: Mapping[tuple[str, ...], Schedule]
    bounds: Mapping[str, Bounds] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedules", MappingProxyType(dict(self.schedules)))
        bounds = {name: (float(low), float(high)) for name, (low, high) in self.bounds.items()}
        object.__setattr__(self, "bounds", MappingProxyType(bounds))
        _check_bounds(bounds)
        _check_owners(self.schedules)
        _ = self._order

    def __hash__(self) -> int:
        return hash((frozenset(self.schedules.items()), frozenset(self.bounds.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only view of a dict cannot be pickled or copied.
        return Plan, (dict(self.schedules), dict(self.bounds))

    @property
    def names(self) -> tuple[str, ...]:
        """The hyperparameters that the plan moves."""
        return tuple(name for names in self.schedules for name in names)

    @property
    def _alone(self) -> Iterator[str]:
        """The hyperparameters that a schedule of their own moves."""
        for names, schedule in self.schedules.items():
            if not isinstance(schedule, GroupSchedule):
                yield names[0]

    @cached_property
    def _order(self) -> tuple[tuple[str, ...], ...]:
        """The schedules' keys, peers before those who read them."""
        owner = {name: names for names in self.schedules for name in names}
        graph = {}
        for names, schedule in self.schedules.items():
            for need in schedule.needs:
                if need not in owner:
                    raise InputError(
                        f"{', '.join(names)}: coupled to `{need}`, which the plan does not move; "
                        f"it moves {', '.join(owner)}"
                    )
            graph[names] = {owner[need] for need in schedule.needs}
        try:
            return tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            cycle = " -> ".join(",".join(names) for names in error.args[1])
            raise InputError(f"hyperparameters are coupled in a cycle: {cycle}") from None

    def resolve(self, horizon: int, seed: int) -> Plan:
        """Return the plan with shares of the horizon turned into epochs (see Schedule.resolve)."""
        resolved = {names: s.resolve(horizon, seed) for names, s in self.schedules.items()}
        return replace(self, schedules=resolved)

    def start(self) -> PlanState:
        """Return the state before the first epoch."""
        return {_key(names): schedule.start() for names, schedule in self.schedules.items()}

    def values(self, state: PlanState) -> dict[str, float]:
        """Return the value in force of each hyperparameter for the coming epoch, within bounds."""
        return self.evaluate(state)[0]

    def evaluate(self, state: PlanState) -> tuple[dict[str, float], tuple[str, ...]]:
        """Return those values, and the names whose schedule says a value outside their bounds."""
        values: dict[str, float] = {}
        clamped = []
        for names in self._order:
            said = self.schedules[names].evaluate(state[_key(names)], values)
            for name, value in (said if isinstance(said, dict) else {names[0]: said}).items():
                low, high = self.bounds.get(name, (-math.inf, math.inf))
                values[name] = min(max(value, low), high)
                if values[name] != value:
                    clamped.append(name)
        return {name: values[name] for name in self.names}, tuple(clamped)

    def update(self, state: PlanState, feedback: Feedback) -> PlanState:
        """Return the state after an epoch that gave this feedback."""
        return {
            _key(names): schedule.update(state[_key(names)], feedback)
            for names, schedule in self.schedules.items()
        }

    def to_tables(self) -> dict[str, Any]:
        """Return the `hyperparameters` and `groups` tables of a config."""
        hyperparameters: dict[str, Any] = {
            name: {"bounds": list(self.bounds[name])} if name in self.bounds else {}
            for name in dict.fromkeys([*self._alone, *self.bounds])
        }
        groups: dict[str, Any] = {}
        for names, schedule in self.schedules.items():
            families = to_table(schedule)
            if isinstance(schedule, GroupSchedule):
                name = "_".join(schedule.terms)
                while name in groups:
                    name += "_"
                groups[name] = {"members": list(names), "families": families}
            else:
                hyperparameters[names[0]]["families"] = families
        return {"hyperparameters": hyperparameters} | ({"groups": groups} if groups else {})

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any]) -> Plan:
        """Return the plan that the tables of a config hold.

        A hyperparameter without families stays at its default. One that has neither is not moved.

        Raises:
            InputError: the tables hold no valid plan; the message begins with the key.
        """
        schedules: dict[tuple[str, ...], Schedule] = {}
        bounds: dict[str, Bounds] = {}
        for name, table in tables.get("groups", {}).items():
            with _under(f"groups.{name}"):
                members = tuple(table["members"])
                schedules[members] = from_table(table["families"], members)
        grouped = {name for names in schedules for name in names}
        for name, table in tables.get("hyperparameters", {}).items():
            with _under(f"hyperparameters.{name}"):
                if "bounds" in table:
                    low, high = table["bounds"]
                    bounds[name] = (low, high)
                if table.get("families"):
                    schedules[name,] = from_table(table["families"])
                elif "default" in table and name not in grouped:
                    schedules[name,] = Constant(float(table["default"]))
        return cls(schedules, bounds)


@contextmanager
def _under(key: str) -> Iterator[None]:
    """Put the key where a mistake stands before its message."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{key}: {error}") from None


def _key(names: tuple[str, ...]) -> str:
    return ",".join(names)


def _check_bounds(bounds: Mapping[str, Bounds]) -> None:
    for name, (low, high) in bounds.items():
        if not -math.inf < low <= high < math.inf:
            raise InputError(
                f"the bounds of `{name}` are [{low}, {high}], but must be finite, low to high"
            )


def _check_owners(schedules: Mapping[tuple[str, ...], Schedule]) -> None:
    owned: set[str] = set()
    for names, schedule in schedules.items():
        if isinstance(schedule, GroupSchedule) and schedule.members != names:
            raise InputError(f"a group over {schedule.members} cannot move {names}")
        for name in names:
            if name in owned:
                raise InputError(f"two schedules move `{name}`: leave one of them out")
            owned.add(name)


class Optimizer(Protocol):
    """What `Scheduler.apply` needs of a torch optimizer."""

    param_groups: list[dict[str, Any]]


class Scheduler:
    """A plan in motion: the values in force, and one `step` at the end of each epoch.

    >>> from schedsearch.schedules import IncrementOnImprovement
    >>> plan = Plan({("weights.l1",): IncrementOnImprovement(initial=0.2, increment=0.01)})
    >>> scheduler = Scheduler(plan, horizon=60)
    >>> for val_loss in (0.9, 0.8, 0.85):
    ...     scheduler.step(val_loss)
    >>> scheduler.values
    {'weights.l1': 0.22}

    Args:
        plan: the schedules; shares of the horizon are resolved here.
        horizon: the number of epochs of a full training.
        seed: the run's seed, for the families that draw.
        direction: whether the metric given to `step` is better when lower or when higher.
    """

    def __init__(
        self, plan: Plan, *, horizon: int, seed: int = 0, direction: Direction = "minimize"
    ) -> None:
        self.plan = plan.resolve(horizon, seed)
        self.direction = direction
        self.epoch = 0
        self._enter(self.plan.start())

    def _enter(self, state: PlanState) -> None:
        self._state = state
        self._evaluated: tuple[dict[str, float], tuple[str, ...]] | None = None

    def _evaluate(self) -> tuple[dict[str, float], tuple[str, ...]]:
        # Not before somebody asks: after the last epoch nobody does.
        if self._evaluated is None:
            self._evaluated = self.plan.evaluate(self._state)
        return self._evaluated

    @property
    def values(self) -> dict[str, float]:
        """The values in force for the coming epoch, by hyperparameter."""
        return dict(self._evaluate()[0])

    @property
    def clamped(self) -> tuple[str, ...]:
        """The hyperparameters that bounds hold back in the coming epoch."""
        return self._evaluate()[1]

    def step(
        self,
        metric: float,
        *,
        terms: Mapping[str, float] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """End an epoch that gave this validation metric and these means of the loss terms.

        Tensors of one element will do. A metric that is NaN is neither better nor worse.
        """
        given = as_float(metric)
        lower_is_better = given if self.direction == "minimize" else -given
        feedback = Feedback(lower_is_better, _floats(metrics), _floats(terms))
        self._enter(self.plan.update(self._state, feedback))
        self.epoch += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data: JSON-able, and enough to go on identically."""
        return {"epoch": self.epoch, "schedules": dict(self._state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` returned for the same plan.

        Raises:
            InputError: the state is of another plan.
        """
        schedules = state.get("schedules", {})
        if _shape(schedules) != _shape(self.plan.start()):
            raise InputError(
                f"the state holds {_shape(schedules)}, but this plan's {_shape(self.plan.start())}"
            )
        self.epoch = int(state["epoch"])
        self._enter(dict(schedules))

    def apply(self, optimizer: Optimizer) -> None:
        """Set the values in force on an optimizer's parameter groups.

        A value named `lr`, `weight_decay` or any other key of a group is set in every group that
        has it; `momentum` stands for Adam's first beta. A value named `GROUP.KEY` is set only in
        the group whose "name" is GROUP. Other values (weights of loss terms) are left alone.
        """
        apply_values(self.values, optimizer)


def apply_values(values: Mapping[str, float], optimizer: Optimizer) -> None:
    """Set values on an optimizer's parameter groups, see `Scheduler.apply`."""
    for group in optimizer.param_groups:
        _set(group, values.items())
        own = f"{group['name']}." if "name" in group else None
        if own:
            _set(group, ((n.removeprefix(own), v) for n, v in values.items() if n.startswith(own)))


def _set(group: dict[str, Any], values: Iterable[tuple[str, float]]) -> None:
    for key, value in values:
        if key == "momentum" and "betas" in group:
            group["betas"] = (value, group["betas"][1])
        elif key in group and hasattr(group[key], "fill_"):
            group[key].fill_(value)  # a learning rate kept as a tensor, for compiled optimizers
        elif key in group:
            group[key] = value


def as_float(value: Any) -> float:
    """Return a number, or the one element of a tensor or array, as a float.

    Raises:
        TypeError, ValueError or RuntimeError: it is no number, or not a single one.
    """
    # float() of a tensor warns where the tensor is part of a graph, as a training loss is.
    return float(value.item() if hasattr(value, "item") else value)


def _floats(given: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: as_float(value) for name, value in (given or {}).items()}


def _shape(state: PlanState) -> dict[str, list[str]]:
    """Return which schedules a state is of, and what each remembers."""
    return {names: sorted(own) for names, own in state.items()}
