"""The one interface of all schedules: a pure state machine over the epochs of a training."""

from __future__ import annotations

import dataclasses
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeAlias

from schedsearch.errors import ParameterError
from schedsearch.schedules.parameters import ParameterType, parameters_of, to_epochs

#: Plain data that survives JSON: no inf, no NaN, "no best yet" is None.
State: TypeAlias = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Feedback:
    """What one epoch gave.

    `metric` is the objective's validation metric with its sign turned so that lower is better; NaN
    where it is unknown. `metrics` are all validation metrics as the task gave them, `terms` the
    mean of each loss term over the epoch, before weighting.
    """

    metric: float
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    terms: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Schedule(ABC):
    """One hyperparameter's values over the epochs: a family (the class) and its parameters.

    The state is passed and returned, never stored, so one schedule can be previewed, trained with,
    resumed, and replayed against recorded feedback.

    Raises:
        ParameterError: at construction, naming the value and the rule that it breaks.
    """

    family: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.family = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def __post_init__(self) -> None:
        for parameter in parameters_of(type(self)):
            value = getattr(self, parameter.name)
            if rule := parameter.violated_constraint(value):
                raise self.parameter_error(parameter.name, rule)

    def parameter_error(self, name: str, rule: str) -> ParameterError:
        """Return the error that says which rule the value of a parameter breaks ("must be …")."""
        return ParameterError(self.family, name, getattr(self, name), rule)

    def resolve(self, horizon: int, seed: int) -> Self:
        """Return the schedule with its shares of the horizon turned into epochs.

        Nothing else needs the horizon. `seed` is that of the run, for the families that draw.
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
        """The hyperparameters whose values in force this schedule reads: its peers."""
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
        """Return the value in force for the coming epoch; a group gives one for each member."""

    @abstractmethod
    def update(self, state: State, feedback: Feedback) -> State:
        """Return the state after an epoch that gave this feedback."""


@dataclasses.dataclass(frozen=True)
class OpenLoop(Schedule):
    """A schedule that depends on the epoch alone: its value is a closed form of it."""

    @abstractmethod
    def at(self, epoch: int) -> float:
        """Return the value in force during `epoch`, counted from 0."""

    def resolve(self, horizon: int, seed: int) -> Self:
        """Resolve, and refuse growth that leaves the floating-point numbers within the horizon."""
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
    """Tell whether an open-loop schedule has a finite value at an epoch."""
    try:
        return math.isfinite(schedule.at(epoch))
    except OverflowError:
        return False


@dataclasses.dataclass(frozen=True)
class GroupSchedule(Schedule):
    """A schedule that moves the weights of several loss terms together.

    `members` are hyperparameters named `weights.TERM`; the value is a dict over them.
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
        """The loss terms that the members weigh, in their order."""
        return tuple(member.removeprefix("weights.") for member in self.members)
