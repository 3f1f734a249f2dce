"""Open-loop families of free shape, given by values at equal distances."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from schedsearch.schedules.durations import completed_periods, epochs
from schedsearch.schedules.interpolation import interpolate_linear
from schedsearch.schedules.open_loop import EndingSchedule, OpenLoop
from schedsearch.schedules.parameters import Duration, Number


def segment_epochs(count: int, duration: float) -> Iterator[int]:
    """Yield, for each segment but the first, the first epoch that differs if its value does.

    A segment that begins within an epoch differs in that epoch. A duration in whole epochs (an
    int) is that of the interval "epoch", where a segment begins at the next whole epoch.

    >>> list(segment_epochs(4, 10)), list(segment_epochs(4, 10.0))
    ([3, 5, 8], [2, 5, 7])
    """
    for segment in range(1, count):
        start = segment * duration / count
        yield math.ceil(start) if isinstance(duration, int) else completed_periods(start, 1.0)


@dataclass(frozen=True, repr=False)
class Piecewise(OpenLoop):
    """Constant segments of equal length; the last value stays afterwards.

    value(t) = values[min(floor(n * t / duration), n - 1)],  n the number of values

    Args:
        values: one value for each segment, at least one.
        duration: epochs of all segments together, or a share of the horizon.

    Source: optax.piecewise_constant_schedule and torch.optim.lr_scheduler.MultiStepLR, with a free
    value for each segment.

    >>> [Piecewise(values=(3.0, 1.0, 2.0), duration=6).at(t) for t in range(8)]
    [3.0, 3.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    """

    values: tuple[Number, ...]
    duration: Duration = "100%"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.values:
            raise self.parameter_error("values", "at least one value")

    def at(self, epoch: float) -> float:
        segment = completed_periods(epoch * len(self.values), epochs(self.duration))
        return self.values[min(segment, len(self.values) - 1)]


@dataclass(frozen=True, repr=False)
class Knots(EndingSchedule):
    """Linear interpolation between knots at equal distances; the last value stays afterwards.

    value(t) = values[k] + (values[k + 1] - values[k]) * (x - k),  k = floor(x)

    with x = (n - 1) * t / duration and n the number of knots.

    Args:
        values: one value for each knot, the first at epoch 0 and the last at epoch `duration`; at
            least two.
        duration: epochs from the first to the last knot, or a share of the horizon.
        endpoint: reach the last knot in the last epoch instead of after it, if the duration is a
            share.

    Source: numpy.interp; optax.piecewise_interpolate_schedule with linear pieces.

    >>> [Knots(values=(0.0, 1.0, 0.5), duration=4).at(t) for t in range(6)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.5]
    """

    values: tuple[Number, ...]
    duration: Duration = "100%"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.values) < 2:
            raise self.parameter_error("values", "at least two values")

    def at(self, epoch: float) -> float:
        duration = epochs(self.duration)
        elapsed = epoch * (len(self.values) - 1)
        knot = completed_periods(elapsed, duration)
        if knot >= len(self.values) - 1:
            return self.values[-1]
        beyond = elapsed - knot * duration
        start, end = self.values[knot], self.values[knot + 1]
        return interpolate_linear(start, end, beyond, duration, self.version)
