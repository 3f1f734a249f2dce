"""Phases: the durations of a schedule that follow each other, converted to epochs together."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import accumulate, pairwise

from schedsearch.schedules.durations import (
    REST,
    Interval,
    exact_size,
    round_half_up,
    to_epochs,
    to_time,
)


def resolve_phases(
    phases: Sequence[float | str],
    horizon: float,
    interval: Interval,
    *,
    needed: Sequence[bool] | None = None,
    version: int,
) -> tuple[float, ...]:
    """Return the lengths of successive phases in epochs.

    At the interval "epoch" the ends of the phases are rounded, not their lengths, so that phases of
    100 % end at the horizon. A share above 0 % keeps one epoch if there is room, the last phases
    first. Numbers of epochs are kept. At "step" nothing is rounded.

    Args:
        phases: epochs, shares of the horizon, or once "rest", which is what the others leave.
        horizon: that shares refer to, in epochs.
        interval: when the value changes.
        needed: whether a phase must not be empty, even if it would end after the horizon.
        version: of the rules; version 1 rounds each length.

    >>> resolve_phases(("10%", "70%", "20%"), 15, "epoch", version=2)
    (2, 10, 3)
    >>> resolve_phases(("10%", "70%", "20%"), 2, "epoch", version=2)
    (0, 1, 1)
    >>> resolve_phases((2, "rest", "10%"), 30, "epoch", version=2)
    (2, 25, 3)

    Raises:
        ValueError: the interval is "epoch", and a number of epochs is not whole.
    """
    must_exist = needed or [False] * len(phases)
    if version == 1 or interval == "step":
        times = {
            k: to_time(phase, horizon, interval, version)
            for k, phase in enumerate(phases)
            if phase != REST
        }
        rest = max(horizon - sum(times.values()), 0)
        # As at the interval "epoch", a phase that must not be empty ends after the horizon.
        rests = [rest or int(is_needed) for is_needed in must_exist]
        as_time = int if interval == "epoch" else float
        return tuple(times.get(k, as_time(rests[k])) for k in range(len(phases)))
    sizes = _sizes(phases, horizon)
    fewest, wanted = [], []
    for phase, size, is_needed in zip(phases, sizes, must_exist, strict=True):
        is_given = not isinstance(phase, str)
        fewest.append(to_epochs(phase, horizon) if is_given else int(is_needed))
        wanted.append(fewest[-1] if is_given else int(is_needed or size > 0))
    ends = [round_half_up(end) for end in accumulate(sizes)]
    return _lengths(ends, wanted, fewest)


def resolve_boundaries(
    boundaries: Sequence[float | str], horizon: float, interval: Interval, version: int
) -> tuple[float, ...]:
    """Return the times at which the second and each later phase begins, in epochs.

    At the interval "epoch" shares are moved so that each phase between two of them, and the last
    one, keeps one epoch if there is room. A boundary before the one that precedes it falls
    together with it.

    Args:
        boundaries: epochs, or shares of the horizon, more than 0.
        horizon: that shares refer to, in epochs.
        interval: when the value changes.
        version: of the rules; up to version 2 no boundary is moved.

    >>> resolve_boundaries(("10%", "20%"), 5, "epoch", version=3)
    (1, 2)
    >>> resolve_boundaries(("10%", "20%"), 5, "epoch", version=2)
    (1, 1)
    >>> resolve_boundaries(("95%",), 10, "epoch", version=3)
    (9,)

    Raises:
        ValueError: the interval is "epoch", and a number of epochs is not whole.
    """
    times = (to_time(boundary, horizon, interval, version) for boundary in boundaries)
    ends = [*accumulate(times, max)]
    if version < 3 or interval == "step":
        return tuple(ends)
    exact = (exact_size(boundary, horizon) for boundary in boundaries)
    sizes = [*accumulate(exact, max), Decimal(str(horizon))]
    lengths = [int(later > size) for size, later in pairwise(sizes)]
    moves = [isinstance(boundary, str) for boundary in boundaries]
    for k in range(1, len(ends)):
        ends[k] = max(ends[k], ends[k - 1] + lengths[k - 1] * moves[k])
    limit = horizon if lengths[-1] else ends[-1]
    for k in reversed(range(len(ends))):
        if moves[k]:
            ends[k] = max(min(ends[k], limit - lengths[k]), 1)
        limit = ends[k]
    return tuple(accumulate(ends, max))


def _sizes(phases: Sequence[float | str], horizon: float) -> list[Decimal]:
    known = sum((exact_size(phase, horizon) for phase in phases if phase != REST), Decimal(0))
    rest = max(Decimal(0), Decimal(str(horizon)) - known)
    return [rest if phase == REST else exact_size(phase, horizon) for phase in phases]


def _lengths(ends: list[int], wanted: Sequence[int], fewest: Sequence[int]) -> tuple[int, ...]:
    """Move the ends of phases so that each has as many epochs as wanted, or at least the fewest."""
    last = max(ends[-1], sum(fewest))
    begin = 0
    for k, length in enumerate(wanted):
        ends[k] = begin = max(ends[k], begin + length)
    least = [*accumulate(fewest)]
    ends[-1] = last
    for k in reversed(range(len(ends) - 1)):
        ends[k] = max(min(ends[k], ends[k + 1] - wanted[k + 1]), least[k])
    return tuple(end - begin for begin, end in pairwise((0, *ends)))
