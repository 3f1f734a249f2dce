"""Interpolation from a start value to an end value: linear, or along half a cosine wave."""

from __future__ import annotations

import math


def interpolate_linear(start: float, end: float, elapsed: float, duration: float) -> float:
    """Return the point of a straight line after `elapsed` of `duration` epochs, or `end` later.

    >>> [interpolate_linear(0.0, 1.0, t, 4) for t in (0, 1, 4, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """
    if elapsed >= duration:
        return end
    return start + (end - start) * (elapsed / duration)


def interpolate_cosine(start: float, end: float, elapsed: float, duration: float) -> float:
    """Return the point of half a cosine wave after `elapsed` of `duration` epochs, or `end` later.

    >>> [round(interpolate_cosine(1.0, 0.0, t, 4), 3) for t in (0, 1, 2, 4, 9)]
    [1.0, 0.854, 0.5, 0.0, 0.0]
    """
    if elapsed >= duration:
        return end
    return end + (start - end) * (1 + math.cos(math.pi * elapsed / duration)) / 2
