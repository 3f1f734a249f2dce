"""A plan: the schedules of all hyperparameters of one training."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import Any, TypeAlias

from schedsearch.argument_values import argument_key, check_arguments
from schedsearch.errors import InputError, ParameterError
from schedsearch.schedules import (
    CURRENT_VERSION,
    Constant,
    Feedback,
    GroupSchedule,
    Interval,
    OpenLoop,
    Schedule,
    State,
    from_table,
    to_table,
)
from schedsearch.schedules.parameters import is_finite

Bounds: TypeAlias = tuple[float, float]
#: One state per schedule, by the names of its hyperparameters. Plain data that JSON can hold.
PlanState: TypeAlias = Mapping[str, State]


@dataclass(frozen=True)
class Plan:
    """The schedules of all hyperparameters of one training.

    Plans are immutable: they can be compared, hashed and pickled, and `to_tables` and `from_tables`
    convert them to and from the tables of a config.

    Args:
        schedules: a schedule for each tuple of hyperparameter names; the tuple has one name, or
            the members of a group schedule.
        bounds: (low, high) by hyperparameter; values outside are clamped.
        intervals: when the value of a hyperparameter changes: "epoch", the default, holds it for
            each epoch; "step" evaluates its schedule at the time of each optimizer step.
        whole: the hyperparameters whose values are rounded to whole numbers, and are ints.
        arguments: those of the task that were chosen with the schedules: text, numbers, true or
            false. No schedule changes them. `1`, `1.0` and `True` are different arguments.

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
        InputError: an interval is neither word, or is "step" for a group, which changes at epochs;
            two schedules set one hyperparameter, a schedule is coupled to a hyperparameter
            without a schedule, schedules are coupled in a cycle, or bounds are not finite, not in
            ascending order, or not whole where values are; an argument is no such value.
    """

    schedules: Mapping[tuple[str, ...], Schedule]
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    whole: frozenset[str] = frozenset()
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedules", MappingProxyType(dict(self.schedules)))
        bounds = {name: (float(low), float(high)) for name, (low, high) in self.bounds.items()}
        object.__setattr__(self, "bounds", MappingProxyType(bounds))
        _check_bounds(bounds)
        _check_whole(self.whole, bounds)
        _check_intervals(self.intervals, self.schedules)
        # Without the default, so that plans with the same meaning are equal.
        by_step = {name: "step" for name, word in self.intervals.items() if word == "step"}
        object.__setattr__(self, "intervals", MappingProxyType(by_step))
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))
        check_arguments(self.arguments)
        _check_no_overlap(self.schedules)
        _check_versions(self.schedules)
        _ = self._evaluation_order

    @cached_property
    def _identity(self) -> tuple[Any, ...]:
        """What makes two plans equal, whatever the order of their hyperparameters."""
        return (
            frozenset(self.schedules.items()),
            frozenset(self.bounds.items()),
            frozenset(self.intervals),
            self.whole,
            argument_key(self.arguments),
        )

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, Plan) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    def __reduce__(self) -> tuple[Any, ...]:
        # A MappingProxyType can be neither pickled nor copied.
        return Plan, (
            dict(self.schedules),
            dict(self.bounds),
            dict(self.intervals),
            self.whole,
            dict(self.arguments),
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The hyperparameters that the plan sets."""
        return tuple(name for names in self.schedules for name in names)

    @property
    def version(self) -> int:
        """The version of the rules that the schedules follow: `Schedule.version`."""
        return next((schedule.version for schedule in self.schedules.values()), CURRENT_VERSION)

    @property
    def _ungrouped_names(self) -> Iterator[str]:
        """The hyperparameters whose schedule sets only one hyperparameter."""
        for names, schedule in self.schedules.items():
            if not isinstance(schedule, GroupSchedule):
                yield names[0]

    @cached_property
    def _evaluation_order(self) -> tuple[tuple[str, ...], ...]:
        """The keys of the schedules, sorted so that dependencies come first."""
        if not any(schedule.dependencies for schedule in self.schedules.values()):
            return tuple(self.schedules)
        owner = {name: names for names in self.schedules for name in names}
        graph = {}
        for names, schedule in self.schedules.items():
            for peer in schedule.dependencies:
                if peer not in owner:
                    raise InputError(
                        f"{', '.join(names)}: coupled to `{peer}`, which has no schedule in the "
                        f"plan; the plan sets {', '.join(owner)}"
                    )
            graph[names] = {owner[peer] for peer in schedule.dependencies}
        try:
            return tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            cycle = " -> ".join(",".join(names) for names in error.args[1])
            raise InputError(f"hyperparameters are coupled in a cycle: {cycle}") from None

    @cached_property
    def _by_key(self) -> Mapping[str, Schedule]:
        """The schedules by their keys in the state, in the order of the plan."""
        return {_key(names): schedule for names, schedule in self.schedules.items()}

    @cached_property
    def _in_evaluation_order(self) -> tuple[tuple[str, tuple[str, ...], Schedule], ...]:
        """The schedules so that dependencies come first, each with its key and its names."""
        return tuple(
            (_key(names), names, self.schedules[names]) for names in self._evaluation_order
        )

    def resolve(self, horizon: int, seed: int) -> Plan:
        """Return the plan with shares of the horizon converted to epochs: `Schedule.resolve`.

        Each hyperparameter draws random numbers of its own from the seed.
        """
        resolved = {}
        for names, schedule in self.schedules.items():
            interval = self.intervals.get(names[0], "epoch")
            try:
                resolved[names] = schedule.resolve(horizon, self._seed_of(names, seed), interval)
            except ParameterError as error:
                raise error.within(", ".join(names)) from None
        return replace(self, schedules=resolved)

    def _seed_of(self, names: tuple[str, ...], seed: int) -> int:
        if self.version < 3 or len(names) > 1:
            return seed
        return int.from_bytes(hashlib.sha256(f"{seed}:{names[0]}".encode()).digest()[:8], "big")

    def at_version(self, version: int) -> Plan:
        """Return the plan with schedules that follow another version of the rules."""
        schedules = {n: schedule.at_version(version) for n, schedule in self.schedules.items()}
        return replace(self, schedules=schedules)

    @cached_property
    def moving(self) -> tuple[str, ...]:
        """The hyperparameters whose values may change within an epoch, in evaluation order."""
        moving: list[str] = []
        for names in self._evaluation_order:
            schedule = self.schedules[names]
            if names[0] in self.intervals and (
                schedule.moves_within_epoch or any(d in moving for d in schedule.dependencies)
            ):
                moving.append(names[0])
        return tuple(moving)

    @cached_property
    def closed_loop(self) -> tuple[tuple[str, ...], ...]:
        """The keys of the schedules that depend on feedback, themselves or through a peer."""
        found: list[tuple[str, ...]] = []
        peers: set[str] = set()
        for names in self._evaluation_order:
            schedule = self.schedules[names]
            if not schedule.is_open_loop or not peers.isdisjoint(schedule.dependencies):
                found.append(names)
                peers.update(names)
        return tuple(found)

    @cached_property
    def digest(self) -> str:
        """A hash of the plan: of a resolved one, it identifies the values of a training.

        Equal plans have the same one, whether a number is written as 1 or as 1.0. Arguments of
        different types have different ones.
        """
        tables = _as_floats(self.to_tables())
        if self.arguments:
            tables["arguments"] = {
                name: _as_floats(value) if isinstance(value, float) else value
                for name, value in self.arguments.items()
            }
        return self._hash_of(tables)

    @property
    def accepted_digests(self) -> tuple[str, ...]:
        """The digest, and those of earlier rules.

        Numbers were hashed as they were given, and later all as floats, those of arguments too.
        """
        tables = self.to_tables()
        return self.digest, self._hash_of(tables), self._hash_of(_as_floats(tables))

    def _hash_of(self, tables: Any) -> str:
        seeds = {seed for schedule in self.schedules.values() for seed in schedule.seeds}
        content = json.dumps([tables, sorted(seeds)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @cached_property
    def is_closed_form(self) -> bool:
        """Whether all values are closed-form functions of time, so that any epoch can be first."""
        return all(isinstance(schedule, OpenLoop) for schedule in self.schedules.values())

    def start(self, epoch: int = 0) -> PlanState:
        """Return the state before the first epoch, or, of a closed-form plan, before another."""
        return {key: schedule.start(epoch) for key, schedule in self._by_key.items()}

    def values(self, state: PlanState) -> dict[str, float]:
        """Return the value of each hyperparameter for the next epoch, within its bounds."""
        return self.evaluate(state)[0]

    def evaluate(
        self, state: PlanState, fraction: float = 0
    ) -> tuple[dict[str, float], tuple[str, ...]]:
        """Return the values in the next epoch, and the names of those that were clamped.

        Args:
            state: before the epoch.
            fraction: the part of the epoch that is over; only values by the step depend on it.
        """
        values: dict[str, float] = {}
        clamped = []
        for key, names, schedule in self._in_evaluation_order:
            result = schedule.evaluate(state[key], values)
            unclamped = result if isinstance(result, dict) else {names[0]: result}
            for name, value in unclamped.items():
                within = self._within_bounds(name, value)
                values[name] = round(within) if name in self.whole else within
                if within != value:
                    clamped.append(name)
        if fraction and self.moving:
            steps, _ = self._evaluate_moving(state, values, (fraction,))
            values |= {name: numbers[0] for name, numbers in steps.items()}
        return {name: values[name] for name in self.names}, tuple(clamped)

    def evaluate_steps(
        self, state: PlanState, fractions: Sequence[float]
    ) -> tuple[dict[str, list[float]], tuple[str, ...]]:
        """Return the values that move within the next epoch, when each part of it is over.

        The second result has the names of those that were clamped at any of these times.
        """
        return self._evaluate_moving(state, self.evaluate(state)[0], fractions)

    def _evaluate_moving(
        self, state: PlanState, beginning: Mapping[str, float], fractions: Sequence[float]
    ) -> tuple[dict[str, list[float]], tuple[str, ...]]:
        steps: dict[str, list[float]] = {}
        clamped = []
        for name in self.moving:
            schedule = self.schedules[name,]
            peers: list[Mapping[str, float]] = [beginning] * len(fractions)
            if any(peer in steps for peer in schedule.dependencies):
                # A peer at the interval "epoch" has the value of the epoch's beginning.
                peers = [
                    {**beginning, **{peer: numbers[i] for peer, numbers in steps.items()}}
                    for i in range(len(fractions))
                ]
            numbers = schedule.evaluate_steps(state[name], peers, fractions)
            steps[name] = numbers
            if name in self.bounds:
                steps[name] = [self._within_bounds(name, number) for number in numbers]
                if steps[name] != numbers:
                    clamped.append(name)
            if name in self.whole:
                steps[name] = [round(number) for number in steps[name]]
        return steps, tuple(clamped)

    def values_at(self, times: Sequence[float]) -> dict[str, list[float]]:
        """Return the values at times in epochs, which may be within epochs.

        The same values as those of `evaluate`, without a state for each epoch. `is_closed_form`
        must be true.
        """
        epochs = [math.floor(time) for time in times]
        found = {}
        for (name,), schedule in self.schedules.items():
            assert isinstance(schedule, OpenLoop)
            moments = times if name in self.moving else epochs
            found[name] = [self._within_bounds(name, schedule.at(moment)) for moment in moments]
            if name in self.whole:
                found[name] = [round(value) for value in found[name]]
        return found

    def _within_bounds(self, name: str, value: float) -> float:
        low, high = self.bounds.get(name, (-math.inf, math.inf))
        return min(max(value, low), high)

    def update(self, state: PlanState, feedback: Feedback) -> PlanState:
        """Return the state after an epoch with this feedback."""
        return {key: one.update(state[key], feedback) for key, one in self._by_key.items()}

    def to_tables(self) -> dict[str, Any]:
        """Return the `hyperparameters` and `groups` tables of a config, and its `schedule_version`.

        Version 1 is left out, as it was before there were versions, and so are arguments if none
        was chosen.
        """
        hyperparameters: dict[str, Any] = {
            name: {"bounds": list(self.bounds[name])} if name in self.bounds else {}
            for name in dict.fromkeys([*self._ungrouped_names, *self.bounds, *sorted(self.whole)])
        }
        for name in self.whole:
            hyperparameters[name]["round"] = True
        for name, interval in self.intervals.items():
            hyperparameters[name]["interval"] = interval
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
        tables = {"hyperparameters": hyperparameters} | ({"groups": groups} if groups else {})
        if self.arguments:
            tables["arguments"] = {name: {"value": v} for name, v in self.arguments.items()}
        return tables | ({"schedule_version": self.version} if self.version > 1 else {})

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any]) -> Plan:
        """Return the plan in the tables of a config.

        A hyperparameter without families is constant at its default; without a default it has no
        schedule. Tables without a `schedule_version` follow version 1 of the rules.

        Raises:
            InputError: the plan is invalid; the message starts with the key.
        """
        schedules: dict[tuple[str, ...], Schedule] = {}
        bounds: dict[str, Bounds] = {}
        intervals: dict[str, Interval] = {}
        given = tables.get("hyperparameters", {})
        whole = frozenset(name for name, table in given.items() if table.get("round"))
        version = tables.get("schedule_version", 1)
        for name, table in tables.get("groups", {}).items():
            with _prefix_errors(f"groups.{name}"):
                members = tuple(table["members"])
                schedules[members] = from_table(table["families"], members, version)
        grouped = {name for names in schedules for name in names}
        for name, table in given.items():
            with _prefix_errors(f"hyperparameters.{name}"):
                if "bounds" in table:
                    low, high = table["bounds"]
                    bounds[name] = (low, high)
                if table.get("families"):
                    schedules[name,] = from_table(table["families"], version=version)
                elif "default" in table and name not in grouped:
                    schedules[name,] = Constant(float(table["default"]), version=version)
                if "interval" in table and (name,) in schedules:
                    intervals[name] = table["interval"]
        # An argument that is no table belongs to the task.
        arguments = {
            name: table["value"]
            for name, table in tables.get("arguments", {}).items()
            if isinstance(table, Mapping)
        }
        return cls(schedules, bounds, intervals, whole, arguments)


@contextmanager
def _prefix_errors(key: str) -> Iterator[None]:
    """Prefix the message of an InputError with the key that it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{key}: {error}") from None


def _as_floats(value: Any) -> Any:
    """Return plain data with a float for each number, and without the sign of a zero."""
    match value:
        case dict():
            return {key: _as_floats(item) for key, item in value.items()}
        case list() | tuple():
            return [_as_floats(item) for item in value]
        case int() | float() if not isinstance(value, bool) and is_finite(value):
            return float(value) + 0.0
    return value


def _key(names: tuple[str, ...]) -> str:
    return ",".join(names)


def _check_bounds(bounds: Mapping[str, Bounds]) -> None:
    for name, (low, high) in bounds.items():
        if not -math.inf < low <= high < math.inf:
            raise InputError(
                f"the bounds of `{name}` are [{low}, {high}], but must be finite and in ascending "
                "order"
            )


def _check_whole(whole: frozenset[str], bounds: Mapping[str, Bounds]) -> None:
    for name in sorted(whole & bounds.keys()):
        if any(end != math.floor(end) for end in bounds[name]):
            raise InputError(
                f"the bounds of `{name}` are {list(bounds[name])}, but must be whole numbers, as "
                "its values are"
            )


def _check_intervals(
    intervals: Mapping[str, Interval], schedules: Mapping[tuple[str, ...], Schedule]
) -> None:
    for name, interval in intervals.items():
        if interval not in ("epoch", "step"):
            raise InputError(
                f'the interval of `{name}` is {interval!r}, but must be "epoch" or "step"'
            )
        if interval == "step" and (name,) not in schedules:
            raise InputError(
                f'the interval of `{name}` is "step", but it has no schedule that sets it alone: '
                "the weights of a group change at epochs"
            )


def _check_versions(schedules: Mapping[tuple[str, ...], Schedule]) -> None:
    versions = {schedule.version for schedule in schedules.values()}
    if len(versions) > 1:
        raise InputError(
            f"the schedules follow the versions {sorted(versions)} of the rules, but all schedules "
            "of a plan must follow one: give each of them the same `version`"
        )


def _check_no_overlap(schedules: Mapping[tuple[str, ...], Schedule]) -> None:
    seen: set[str] = set()
    for names, schedule in schedules.items():
        if isinstance(schedule, GroupSchedule) and schedule.members != names:
            raise InputError(
                f"the group has the members {schedule.members}, but is the schedule of {names}"
            )
        for name in names:
            if name in seen:
                raise InputError(f"two schedules set `{name}`: remove one of them")
            seen.add(name)
