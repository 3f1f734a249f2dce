"""The interface of all schedules: a pure state machine over the epochs of a training."""

from __future__ import annotations

import dataclasses
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeAlias

from schedsearch.errors import ParameterError
from schedsearch.schedules.parameters import ParameterType, parameters_of, to_epochs

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

    Raises:
        ParameterError: at construction, if a parameter breaks a rule of the family.
    """

    family: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.family = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def __post_init__(self) -> None:
        for parameter in parameters_of(type(self)):
            value = getattr(self, parameter.name)
            if constraint := parameter.violated_constraint(value):
                raise self.parameter_error(parameter.name, constraint)

    def parameter_error(self, name: str, rule: str) -> ParameterError:
        """Return the error for a parameter whose value breaks a rule; `rule` follows "must be"."""
        return ParameterError(self.family, name, getattr(self, name), rule)

    def resolve(self, horizon: int, seed: int) -> Self:
        """Return the schedule with its shares of the horizon converted to epochs.

        Args:
            horizon: the number of epochs of a full training.
            seed: the seed of the run, for families that draw random numbers.

        Raises:
            ParameterError: a value would overflow within the horizon.
        """
        changes: dict[str, Any] = {}
        for parameter in parameters_of(type(self)):
            value = getattr(self, parameter.name)
            items = value if parameter.is_list else (value,)
            if parameter.type is ParameterType.DURATION:
                items = tuple(to_epochs(item, horizon) for item in items)
            elif parameter.type is ParameterType.SCHEDULE:
                items = tuple(item.resolve(horizon, seed) for item in items)
            changes[parameter.name] = items if parameter.is_list else items[0]
        return dataclasses.replace(self, **changes)

    @property
    def dependencies(self) -> tuple[str, ...]:
        """The other hyperparameters whose current values this schedule reads."""
        inner: list[str] = []
        for parameter in parameters_of(type(self)):
            if parameter.type is ParameterType.SCHEDULE:
                value = getattr(self, parameter.name)
                for schedule in value if parameter.is_list else (value,):
                    inner.extend(schedule.dependencies)
        return tuple(dict.fromkeys(inner))

    @abstractmethod
    def start(self) -> State:
        """Return the state before the first epoch."""

    @abstractmethod
    def evaluate(self, state: State, peers: Mapping[str, float]) -> float | dict[str, float]:
        """Return the value for the next epoch; a group returns a dict with one for each member.

        Args:
            state: the current state of the schedule.
            peers: the values of other hyperparameters for the next epoch, by name.
        """

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


@dataclasses.dataclass(frozen=True)
class OpenLoop(Schedule):
    """A schedule whose value is a closed-form function of the epoch, without feedback."""

    @abstractmethod
    def at(self, epoch: int) -> float:
        """Return the value during `epoch`, counted from 0."""

    def resolve(self, horizon: int, seed: int) -> Self:
        """Resolve the schedule; raise ParameterError if a value overflows within the horizon."""
        resolved = super().resolve(horizon, seed)
        for epoch in range(horizon):
            if not _has_finite_value(resolved, epoch):
                raise ParameterError(
                    self.family,
                    "parameters",
                    self,
                    f"such that no value overflows (epoch {epoch} does)",
                )
        return resolved

    def start(self) -> State:
        return {"epoch": 0}

    def evaluate(self, state: State, peers: Mapping[str, float]) -> float:
        return self.at(state["epoch"])

    def update(self, state: State, feedback: Feedback) -> State:
        return {"epoch": state["epoch"] + 1}


def _has_finite_value(schedule: OpenLoop, epoch: int) -> bool:
    """Return whether an open-loop schedule has a finite value at an epoch."""
    try:
        return math.isfinite(schedule.at(epoch))
    except OverflowError:
        return False


@dataclasses.dataclass(frozen=True)
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
