"""Paired differences and their intervals as text, the same for confirmations and explanations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schedsearch.confirmation.paired import ALPHA


def sign_sentence(first: str, second: str, result: Mapping[str, Any]) -> str:
    """Return what the sign of a difference means.

    >>> sign_sentence("schedule", "constant", {"metric": "error", "direction": "minimize"})
    'difference: schedule minus constant; negative: the schedule is better, as error is minimized'
    """
    sign = "negative" if result["direction"] == "minimize" else "positive"
    goal = f"{result['metric']} is {result['direction']}d"
    return f"difference: {first} minus {second}; {sign}: the {first} is better, as {goal}"


def levels_sentence(count: int, what: str) -> str:
    """Return why the intervals have their levels.

    >>> levels_sentence(6, "schedules")  # doctest: +NORMALIZE_WHITESPACE
    'intervals: the 6 schedules share an error rate of 5 % (Holm), so the one with the smallest p
    has a 99.17 % interval (5 % / 6), and the others one of 95 to 99.17 %'
    >>> levels_sentence(1, "schedules")
    'intervals: 95 %, for one comparison'
    """
    least = _percent(ALPHA)
    if count == 1:
        return f"intervals: {least} %, for one comparison"
    most, rate = _percent(ALPHA / count), f"{100 * ALPHA:.4g} %"
    return (
        f"intervals: the {count} {what} share an error rate of {rate} (Holm), so the one with the "
        f"smallest p has a {most} % interval ({rate} / {count}), and the others one of {least} to "
        f"{most} %"
    )


def describe_difference(entry: Mapping[str, Any], level: float) -> str:
    """Return a difference with its interval.

    >>> describe_difference({"difference": -0.25, "interval": [-0.4, -0.1]}, 0.025)
    '-0.25 (97.5 % interval -0.4 to -0.1)'
    """
    low, high = entry["interval"]
    return f"{entry['difference']:+.4g} ({_percent(level)} % interval {low:+.4g} to {high:+.4g})"


def _percent(level: float) -> str:
    return f"{100 * (1 - level):.4g}"
