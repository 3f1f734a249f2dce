"""Durations: epochs or shares of the horizon, converted to epochs by exact rules.

A duration is a number of epochs, or a share of the horizon such as "20%". Shares round half up to
whole epochs, or are not rounded at all if a value changes at each optimizer step.
"""

from __future__ import annotations

import math
import re
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Literal, TypeAlias

#: A phase that takes the epochs which the other phases leave.
REST = "rest"
#: When the value of a hyperparameter changes: at each epoch, or at each optimizer step.
Interval: TypeAlias = Literal["epoch", "step"]

#: The newest version of the rules that turn shares into epochs and compute end points. Version 1
#: is that of studies and configs that record no version; they keep its values, bit for bit.
#: Version 2 rounds phases together, counts in decimals and has exact end points. Version 3 gives
#: each hyperparameter its own noise, keeps every line and ramp between its two values, leaves each
#: part of a `join` or `warmup` one epoch, and computes the restarts of a multiplier below 1.5 in
#: closed form.
CURRENT_VERSION = 3
VERSIONS = range(1, CURRENT_VERSION + 1)

_SHARE = re.compile(r"(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)%")
#: A limit above every useful duration, so that a share times the horizon stays a whole number.
_LARGEST_SHARE = 1e9
#: Two times that differ by less, in epochs, are equal; a step of an optimizer is much longer.
_TIME_TOLERANCE = 1e-9
#: Enough digits for an exact product of a share and a horizon.
_EXACT = Context(prec=60)


def parse_share(text: str) -> float | None:
    """Return a share of the horizon as a fraction, or None if the text is not a share.

    >>> parse_share("20%"), parse_share("20")
    (0.2, None)
    """
    found = _SHARE.fullmatch(text)
    fraction = float(found[1]) / 100 if found else math.inf
    return fraction if fraction <= _LARGEST_SHARE else None


def duration_size(duration: float | str) -> float:
    """Return a duration in epochs or as a fraction; -1 if it is neither, which no rule allows."""
    if not isinstance(duration, str):
        return duration
    fraction = parse_share(duration)
    return -1.0 if fraction is None else fraction


def exact_size(duration: float | str, horizon: float) -> Decimal:
    """Return a duration in epochs as an exact decimal number: a share of a horizon, or a number.

    >>> exact_size("29%", 50), exact_size(7, 50)
    (Decimal('14.50'), Decimal('7'))
    """
    if not isinstance(duration, str):
        return Decimal(str(duration))
    share = Decimal(duration.removesuffix("%"))
    return _EXACT.multiply(share, Decimal(str(horizon))).scaleb(-2, _EXACT)


def round_half_up(size: Decimal) -> int:
    """Return the nearest whole number, and of two equally near ones the larger.

    >>> round_half_up(Decimal("14.5")), round_half_up(Decimal("14.4"))
    (15, 14)
    """
    return int(_EXACT.add(size, Decimal("0.5")).to_integral_value(ROUND_FLOOR))


def to_epochs(duration: float | str, horizon: float, version: int = CURRENT_VERSION) -> int:
    """Return a duration in whole epochs: shares round half up, to at least 1 except for "0%".

    Args:
        duration: epochs, or a share.
        horizon: that shares refer to, in epochs.
        version: of the rules; version 1 rounds in binary, which misses some halves.

    >>> to_epochs("20%", 60), to_epochs("2.5%", 60), to_epochs("1%", 10), to_epochs(7, 10)
    (12, 2, 1, 7)
    >>> to_epochs("29%", 50), to_epochs("29%", 50, version=1)
    (15, 14)

    Raises:
        ValueError: the duration is a number of epochs that is not whole.
    """
    if isinstance(duration, str):
        fraction = duration_size(duration)
        if not fraction:
            return 0
        if version == 1:
            return max(1, math.floor(fraction * horizon + 0.5))
        return max(1, round_half_up(exact_size(duration, horizon)))
    if duration != math.floor(duration):
        raise ValueError(f"{duration} epochs are not a whole number")
    return int(duration)


def to_time(
    duration: float | str, horizon: float, interval: Interval, version: int = CURRENT_VERSION
) -> float:
    """Return a duration in epochs: whole at the interval "epoch", and not rounded at "step".

    The type says which: an int at "epoch", a float at "step". A float within 1e-9 of a whole
    number is that number, so that rounding does not move a boundary into another epoch.

    >>> to_time("2.5%", 60, "epoch"), to_time("2.5%", 60, "step"), to_time("30%", 10, "step")
    (2, 1.5, 3.0)

    Raises:
        ValueError: the interval is "epoch", and the duration a number of epochs that is not whole.
    """
    if interval == "epoch":
        return to_epochs(duration, horizon, version)
    if isinstance(duration, str) and version == 1:
        return _snapped(duration_size(duration) * horizon)
    return _snapped(float(exact_size(duration, horizon)))


def _snapped(time: float) -> float:
    """Return a time as a float, and as a whole number if it is one apart from rounding."""
    return float(round(time)) if is_same_time(time, round(time)) else float(time)


def is_same_time(first: float, second: float) -> bool:
    """Return whether two times in epochs are equal, apart from rounding."""
    return abs(first - second) < _TIME_TOLERANCE


def has_passed(boundary: float, time: float) -> bool:
    """Return whether a boundary has been reached at a time, both in epochs.

    >>> has_passed(3, 3), has_passed(0.1 + 0.2, 0.3), has_passed(0.31, 0.3)
    (True, True, False)
    """
    return boundary <= time or is_same_time(boundary, time)


def completed_periods(time: float, period: float) -> int:
    """Return how many periods are complete at a time; exact for whole numbers.

    >>> completed_periods(7, 3), completed_periods(0.3, 0.1)
    (2, 3)
    """
    count = int(time // period)
    if isinstance(time, int) and isinstance(period, int):
        return count
    return count + has_passed((count + 1) * period, time)


def epochs(duration: float | str) -> float:
    """Return a resolved duration in epochs.

    Raises:
        TypeError: the schedule has not been resolved.
    """
    if isinstance(duration, str):
        raise TypeError(f"{duration!r} is a share of a horizon: call resolve(horizon, seed) first")
    return duration
