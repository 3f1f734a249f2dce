"""The interface of all schedules: a pure state machine over the epochs of a training."""

from __future__ import annotations

import dataclasses
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, TypeAlias, cast

from schedsearch.errors import ParameterError
from schedsearch.schedules.durations import (
    CURRENT_VERSION,
    REST,
    VERSIONS,
    Interval,
    exact_size,
    to_epochs,
    to_time,
)
from schedsearch.schedules.parameters import ParameterType, ordered_fields, parameters_of
from schedsearch.schedules.phases import resolve_boundaries, resolve_phases

_WHOLE_EPOCHS = 'in whole epochs, or a share of the horizon, unless the interval is "step"'


def _is_whole(duration: float | str) -> bool:
    return isinstance(duration, str) or duration == math.floor(duration)


#: Plain data that JSON can hold: no inf, no NaN; None where there is no best metric yet.
State: TypeAlias = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Feedback:
    """The results of one epoch, which closed-loop schedules react to.

    Args:
        metric: the validation metric of the objective, negated if it is maximized, so that lower
            is always better; NaN if it is unknown.
        metrics: all validation metrics by name, as the task reports them.
        terms: the mean of each loss term over the epoch, before weighting.
    """

    metric: float
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    terms: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Schedule(ABC):
    """The values of one hyperparameter over the epochs: a family (the class) and its parameters.

    A schedule never stores state: each method takes the state and returns the next one. One
    schedule can therefore be previewed, trained with, resumed, and replayed from recorded feedback.

    Args:
        version: of the rules for durations and end points. Plans that were stored before there were
            versions have version 1, and keep their values.

    Raises:
        ParameterError: at construction, if a parameter breaks a rule of the family.
    """

    family: ClassVar[str]
    #: The durations that follow each other, in order; they are converted to epochs together.
    phases: ClassVar[tuple[str, ...]] = ()
    #: Whether the phases are those of one of several cycles.
    repeats: ClassVar[bool] = False
    #: The parameter that says when the schedules within it begin, if one does.
    beginnings: ClassVar[str | None] = None

    version: int = dataclasses.field(default=CURRENT_VERSION, kw_only=True, repr=False)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.family = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def __repr__(self) -> str:
        # That of `dataclass` lists the options of a base class first: each family has repr=False.
        fields = [field.name for field in ordered_fields(type(self)) if field.repr]
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in fields)
        return f"{type(self).__qualname__}({shown})"

    def __post_init__(self) -> None:
        for parameter in parameters_of(type(self)):
            value = getattr(self, parameter.name)
            if constraint := parameter.violated_constraint(value):
                raise self.parameter_error(parameter.name, constraint)
        if self.version not in VERSIONS:
            raise self.parameter_error("version", f"from 1 to {CURRENT_VERSION}")
        for inner in self._inner_schedules:
            if inner.version != self.version:
                rule = f"{inner.version}, that of the schedule within it"
                raise self.parameter_error("version", rule)
        rests = [phase for phase in self.phases if getattr(self, phase) == REST]
        if len(rests) > 1:
            rule = f'a number of epochs or a share, since `{rests[0]}` is "{REST}" already'
            raise self.parameter_error(rests[1], rule)

    def parameter_error(self, name: str, rule: str) -> ParameterError:
        """Return the error for a parameter whose value breaks a rule; `rule` follows "must be"."""
        return ParameterError(self.family, name, getattr(self, name), rule)

    def at_version(self, version: int) -> Self:
        """Return the schedule, and those within it, by another version of the rules."""
        changes: dict[str, Any] = {"version": version}
        for parameter in parameters_of(type(self)):
            if parameter.type is ParameterType.SCHEDULE:
                value = getattr(self, parameter.name)
                items = tuple(
                    item.at_version(version) for item in (value if parameter.is_list else (value,))
                )
                changes[parameter.name] = items if parameter.is_list else items[0]
        return dataclasses.replace(self, **changes)

    def resolve(self, horizon: float, seed: int, interval: Interval = "epoch") -> Self:
        """Return the schedule with its shares of the horizon converted to epochs.

        Args:
            horizon: the number of epochs of a full training; of an inner schedule that begins
                within an epoch, not a whole number.
            seed: the seed of the run, for families that draw random numbers.
            interval: when the value changes; at "epoch" durations are whole epochs.

        Raises:
            ParameterError: a value would overflow within the horizon, or the interval is "epoch"
                and a duration is not a whole number of epochs.
        """
        changes: dict[str, Any] = self._resolved_phases(horizon, interval)
        for parameter in parameters_of(type(self)):
            value = getattr(self, parameter.name)
            items = value if parameter.is_list else (value,)
            if parameter.name in changes:
                continue
            match parameter.type:
                case ParameterType.DURATION:
                    items = self._resolved_durations(parameter.name, items, horizon, interval)
                case ParameterType.EPOCH_COUNT:
                    items = tuple(to_epochs(item, horizon, self.version) for item in items)
                case ParameterType.SCHEDULE:
                    items = tuple(item.resolve(horizon, seed, interval) for item in items)
            changes[parameter.name] = items if parameter.is_list else items[0]
        return dataclasses.replace(self, **changes)

    def _resolved_durations(
        self, name: str, durations: Sequence[float | str], horizon: float, interval: Interval
    ) -> tuple[float, ...]:
        """Return the durations of a parameter in epochs."""
        horizon = self._horizon_of_shares(horizon)
        try:
            return tuple(to_time(item, horizon, interval, self.version) for item in durations)
        except ValueError:
            raise self.parameter_error(name, _WHOLE_EPOCHS) from None

    def _resolved_boundaries(
        self, name: str, boundaries: Sequence[float | str], horizon: float, interval: Interval
    ) -> tuple[float, ...]:
        """Return the times of a parameter at which another phase begins, in epochs."""
        try:
            return resolve_boundaries(boundaries, horizon, interval, self.version)
        except ValueError:
            raise self.parameter_error(name, _WHOLE_EPOCHS) from None

    def _resolved_phases(self, horizon: float, interval: Interval) -> dict[str, Any]:
        """Return the phases by name, in epochs."""
        if not self.phases:
            return {}
        by_name = {parameter.name: parameter for parameter in parameters_of(type(self))}
        given = [getattr(self, name) for name in self.phases]
        needed = [by_name[name].violated_constraint(0) is not None for name in self.phases]
        horizon = self._horizon_of_shares(horizon)
        try:
            lengths = resolve_phases(given, horizon, interval, needed=needed, version=self.version)
        except ValueError:
            name = next(n for n in self.phases if not _is_whole(getattr(self, n)))
            raise self.parameter_error(name, _WHOLE_EPOCHS) from None
        return dict(zip(self.phases, lengths, strict=True))

    def phase_lengths(self, horizon: float) -> tuple[float, ...]:
        """Return the phases in epochs, not rounded; of "rest" 0."""
        shared = self._horizon_of_shares(horizon)
        given = (getattr(self, name) for name in self.phases)
        return tuple(0.0 if each == REST else float(exact_size(each, shared)) for each in given)

    def _horizon_of_shares(self, horizon: float) -> float:
        """Return the epochs that the shares of this schedule refer to."""
        return horizon

    @property
    def moves_within_epoch(self) -> bool:
        """Whether the value can change between two steps of an epoch at the interval "step"."""
        return any(inner.moves_within_epoch for inner in self._inner_schedules)

    @property
    def is_open_loop(self) -> bool:
        """Whether the value depends on time and on peers only, and not on feedback."""
        inner = self._inner_schedules
        return bool(inner) and all(schedule.is_open_loop for schedule in inner)

    @property
    def _inner_schedules(self) -> tuple[Schedule, ...]:
        inner: list[Schedule] = []
        for parameter in parameters_of(type(self)):
            if parameter.type is ParameterType.SCHEDULE:
                value = getattr(self, parameter.name)
                inner.extend(value if parameter.is_list else (value,))
        return tuple(inner)

    @property
    def dependencies(self) -> tuple[str, ...]:
        """The other hyperparameters whose current values this schedule reads."""
        inner = (name for schedule in self._inner_schedules for name in schedule.dependencies)
        return tuple(dict.fromkeys(inner))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that random numbers of this schedule and of inner ones are drawn from."""
        return tuple(seed for schedule in self._inner_schedules for seed in schedule.seeds)

    @abstractmethod
    def start(self, time: float = 0) -> State:
        """Return the state before the first epoch.

        Args:
            time: the epochs from the schedule's beginning to that of the epoch in which it begins:
                from more than -1 to 0. It is 0 unless an outer schedule begins this one within an
                epoch.
        """

    @abstractmethod
    def evaluate(
        self, state: State, peers: Mapping[str, float], fraction: float = 0
    ) -> float | dict[str, float]:
        """Return the value in the next epoch; a group returns a dict with one for each member.

        Nothing within an epoch is state: an open-loop schedule is evaluated at the time
        epoch + fraction, and a closed-loop one holds its value until `update`.

        Args:
            state: the current state of the schedule.
            peers: the values of other hyperparameters at the same time, by name.
            fraction: the part of the epoch that is over, from 0 to less than 1.
        """

    def evaluate_steps(
        self, state: State, peers: Sequence[Mapping[str, float]], fractions: Sequence[float]
    ) -> list[float]:
        """Return `evaluate` for several parts of an epoch; not defined for a group."""
        return [
            cast(float, self.evaluate(state, at, fraction))
            for at, fraction in zip(peers, fractions, strict=True)
        ]

    @abstractmethod
    def update(self, state: State, feedback: Feedback) -> State:
        """Return the state after an epoch with this feedback."""


def check_initial_value(
    schedule: Schedule, initial: float, min_value: float, max_value: float
) -> None:
    """Raise ParameterError unless the initial value of a schedule is within its limits."""
    if not min_value <= initial <= max_value:
        limits = f"`min_value` = {min_value!r} to `max_value` = {max_value!r}"
        raise schedule.parameter_error("initial", f"from {limits}")


@dataclasses.dataclass(frozen=True, repr=False)
class SeededSchedule(Schedule):
    """A schedule that draws random numbers from the seed of the run."""

    #: The seed of the run, set by `resolve`.
    seed: int = dataclasses.field(default=0, init=False)

    def resolve(self, horizon: float, seed: int, interval: Interval = "epoch") -> Self:
        """Resolve the schedule and store the seed of the run for the random numbers."""
        resolved = super().resolve(horizon, seed, interval)
        object.__setattr__(resolved, "seed", seed)
        return resolved

    @property
    def seeds(self) -> tuple[int, ...]:
        return (self.seed, *super().seeds)


@dataclasses.dataclass(frozen=True, repr=False)
class GroupSchedule(Schedule):
    """A schedule that sets the weights of several loss terms together.

    Its value is a dict from each member to a weight.

    Args:
        members: at least two hyperparameters, named `weights.TERM`.
    """

    members: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.members) < 2 or len(set(self.members)) != len(self.members):
            raise self.parameter_error("members", "at least two different hyperparameters")
        if not all(re.fullmatch(r"weights\..+", member) for member in self.members):
            raise self.parameter_error("members", "weights of loss terms, named weights.TERM")

    @property
    def terms(self) -> tuple[str, ...]:
        """The loss terms that the members weight, in the order of the members."""
        return tuple(member.removeprefix("weights.") for member in self.members)
