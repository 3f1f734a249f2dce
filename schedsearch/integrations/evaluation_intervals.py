"""The intervals between the evaluations of a training; each of them is an epoch of the plan."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluationIntervals:
    """The evaluation intervals of a training, in optimizer steps; the last may be shorter.

    >>> intervals = EvaluationIntervals(length=4, total=10)
    >>> intervals.count, [intervals.steps_of(index) for index in range(3)]
    (3, [4, 4, 2])
    >>> intervals.completed(9), intervals.completed(10)
    (2, 3)

    Attributes:
        length: the steps of each interval but the last.
        total: the steps of the training.
    """

    length: int
    total: int

    @property
    def count(self) -> int:
        """The number of intervals."""
        return math.ceil(self.total / self.length)

    def steps_of(self, index: int) -> int:
        """Return the number of steps of an interval."""
        return min(self.length, self.total - index * self.length)

    def completed(self, step: int) -> int:
        """Return the number of intervals that are over after a number of steps."""
        return self.count if step >= self.total else step // self.length

    def step_within(self, step: int) -> int:
        """Return the number of steps since the beginning of the present interval."""
        return 0 if step >= self.total else step % self.length


class IntervalClock:
    """The position of a training in its evaluation intervals.

    Attributes:
        intervals: of the training.
        index: the present interval, or the next one between two intervals.
        step: the optimizer steps of the present interval that are over.
        in_step: whether the batches of an optimizer step are trained now.
        has_values: whether the values of the present interval are set.
        awaits_first: whether an evaluation before the first step has not given its metric yet.
        awaits_end: whether the steps of the interval are over, but its evaluation is not.
        ended_at: the number of optimizer steps when the last interval ended, until the next event.
        metrics: the names of the metrics that the awaited evaluation has given.
    """

    def __init__(self, intervals: EvaluationIntervals, step: int, *, awaits_first: bool) -> None:
        self.intervals = intervals
        self.index, self.step = intervals.completed(step), intervals.step_within(step)
        self.in_step = self.has_values = self.awaits_end = False
        self.awaits_first = awaits_first
        self.ended_at: int | None = None
        self.metrics: list[str] = []

    @property
    def steps(self) -> int:
        """The optimizer steps of the present interval."""
        return self.intervals.steps_of(self.index)

    @property
    def awaits_evaluation(self) -> bool:
        """Whether the metric of an evaluation is awaited."""
        return self.awaits_first or self.awaits_end

    def await_end(self) -> None:
        """The steps of the interval are over: await its evaluation."""
        self.awaits_end, self.metrics = True, []

    def end_interval(self, global_step: int) -> None:
        """The interval has ended with its evaluation."""
        self.awaits_end = self.has_values = False
        self.index, self.step, self.ended_at = self.index + 1, 0, global_step
