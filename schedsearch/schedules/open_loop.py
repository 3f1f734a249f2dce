"""The base classes of schedules that depend on time alone, and the check of overflow."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from schedsearch.errors import ParameterError
from schedsearch.schedules.base import Feedback, Schedule, State
from schedsearch.schedules.durations import Interval, has_passed


@dataclass(frozen=True, repr=False)
class OpenLoop(Schedule):
    """A schedule whose value is a closed-form function of time, without feedback."""

    #: Whether a value that overflows implies that the first or the last one does.
    overflows_at_an_end: ClassVar[bool] = False

    @abstractmethod
    def at(self, epoch: float) -> float:
        """Return the value at a time in epochs, counted from 0."""

    def resolve(self, horizon: float, seed: int, interval: Interval = "epoch") -> Self:
        """Resolve the schedule; raise ParameterError if a value overflows within the horizon."""
        resolved = super().resolve(horizon, seed, interval)
        rule = broken_overflow_rule(
            resolved.at, horizon, interval, check_ends_only=self.overflows_at_an_end
        )
        if rule:
            raise ParameterError(self.family, "parameters", self, rule)
        return resolved

    @property
    def moves_within_epoch(self) -> bool:
        return True

    @property
    def is_open_loop(self) -> bool:
        return True

    def start(self, time: float = 0) -> State:
        return {"epoch": time}

    def evaluate(self, state: State, peers: Mapping[str, float], fraction: float = 0) -> float:
        return self.at(max(state["epoch"] + fraction, 0))

    def evaluate_steps(
        self, state: State, peers: Sequence[Mapping[str, float]], fractions: Sequence[float]
    ) -> list[float]:
        at, epoch = self.at, state["epoch"]
        return [at(max(epoch + fraction, 0)) for fraction in fractions]

    def update(self, state: State, feedback: Feedback) -> State:
        return {"epoch": state["epoch"] + 1}


@dataclass(frozen=True, repr=False)
class EndingSchedule(OpenLoop):
    """An open-loop schedule that reaches a final value.

    With a share of "100%" it does so at the horizon, where no epoch begins any more. With
    `endpoint`, shares are of the epochs before the last one, so that one trains with `final`.
    """

    endpoint: bool = field(default=False, kw_only=True)

    def _has_passed(self, boundary: float, time: float) -> bool:
        """Return whether a boundary has been reached; version 1 does not allow for rounding."""
        return has_passed(boundary, time) if self.version > 1 else boundary <= time

    def _horizon_of_shares(self, horizon: float) -> float:
        return horizon - 1 if self.endpoint and horizon > 1 else horizon


def broken_overflow_rule(
    at: Callable[[float], float],
    horizon: float,
    interval: Interval,
    *,
    check_ends_only: bool = False,
) -> str | None:
    """Return the rule, to follow "must be", that a function of time breaks if it overflows.

    Args:
        at: returns the value at a time in epochs.
        horizon: the number of epochs.
        interval: when the value changes.
        check_ends_only: whether a value that overflows implies that the first or the last one does.
    """
    times: list[float] = [*range(math.ceil(horizon))]
    # Within the last epoch, values come close to that at the horizon.
    times += [horizon] if interval == "step" else []
    # Few and all at once, since each candidate of a search is checked; only the message of one that
    # overflows says when.
    if _are_finite(at, times[:1] + times[-1:] if check_ends_only else times):
        return None
    time = next(time for time in times if not _are_finite(at, [time]))
    return f"such that no value overflows (epoch {time} does)"


def _are_finite(at: Callable[[float], float], times: Iterable[float]) -> bool:
    try:
        return all(map(math.isfinite, map(at, times)))
    except OverflowError:
        return False
