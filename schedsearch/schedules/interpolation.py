"""Interpolation from a start value to an end value: linear, or by a weight."""

from __future__ import annotations

import math

from schedsearch.schedules.durations import CURRENT_VERSION


def interpolate_linear(
    start: float, end: float, elapsed: float, duration: float, version: int = CURRENT_VERSION
) -> float:
    """Return the point of a straight line after `elapsed` of `duration` epochs, or `end` later.

    Up to version 2 of the rules, rounding may move it beyond `end`.

    >>> [interpolate_linear(0.0, 1.0, t, 4) for t in (0, 1, 4, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """
    if elapsed >= duration:
        return end
    return interpolate(start, end, elapsed / duration, version)


def interpolate(start: float, end: float, weight: float, version: int = CURRENT_VERSION) -> float:
    """Return `start + (end - start) * weight`, exact at 1, and between the two values.

    Rounding may move the formula by itself beyond `end`; so it does up to version 2 of the rules.

    >>> interpolate(0.7, 0.1, 1.0), interpolate(0.7, 0.1, 1.0, version=2)
    (0.1, 0.09999999999999998)
    """
    value = start + (end - start) * weight
    if version < 3 or not math.isfinite(value):
        return value
    return end if weight == 1 else between(start, end, value)


def interpolate_geometric(start: float, end: float, elapsed: float, duration: float) -> float:
    """Return `start * (end / start) ** (elapsed / duration)`, or `end` later; both are above 0.

    >>> [interpolate_geometric(4.0, 1.0, t, 2) for t in (0, 1, 2, 3)]
    [4.0, 2.0, 1.0, 1.0]
    """
    if elapsed >= duration:
        return end
    if elapsed <= 0:
        return start
    return between(start, end, start * math.pow(end / start, elapsed / duration))


def one_minus_sqrt(elapsed: float, duration: float) -> float:
    """Return 1 minus the square root of the elapsed part, which falls from 1 to 0.

    >>> [one_minus_sqrt(t, 4) for t in (0, 1, 4, 9)]
    [1.0, 0.5, 0.0, 0.0]
    """
    return 0.0 if elapsed >= duration else 1 - math.sqrt(elapsed / duration)


def half_cosine(elapsed: float, duration: float) -> float:
    """Return the height of half a cosine wave, which falls from 1 to 0 in `duration` epochs.

    >>> [round(half_cosine(t, 4), 3) for t in (0, 1, 2, 4, 9)]
    [1.0, 0.854, 0.5, 0.0, 0.0]
    """
    return 0.0 if elapsed >= duration else (1 + math.cos(math.pi * elapsed / duration)) / 2


def blend(start: float, end: float, weight: float, version: int = CURRENT_VERSION) -> float:
    """Return `end + (start - end) * weight`, exact at 0 and at 1, and between the two values.

    Rounding may move the formula by itself beyond `start`; so it does in version 1 of the rules.

    >>> blend(0.1, 0.7, 1.0), blend(0.1, 0.7, 1.0, version=1)
    (0.1, 0.09999999999999998)
    """
    if weight == 0:
        return end
    value = end + (start - end) * weight
    if version == 1 or not math.isfinite(value):
        return value
    return start if weight == 1 else between(start, end, value)


def between(start: float, end: float, value: float) -> float:
    """Return the value, or the nearer of the two ends if rounding moved it beyond.

    >>> between(0.7, 0.1, 0.09999999999999998), between(0.1, 0.7, 0.3)
    (0.1, 0.3)
    """
    return min(max(value, min(start, end)), max(start, end))
