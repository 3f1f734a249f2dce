"""Parsing of `{ low, high, log, step }` into a range."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from schedsearch.errors import Problem, did_you_mean
from schedsearch.schedules.durations import parse_share
from schedsearch.schedules.parameters import DURATIONS, Parameter, ParameterType
from schedsearch.space.domains import Domain, Fixed, Range

_KEYS = ("low", "high", "log", "step")


def parse_range(
    parameter: Parameter, table: Mapping[str, Any], key: str, *, ends_are_valid: bool
) -> tuple[Domain, list[Problem]]:
    """Return the domain that a table describes, and its problems.

    A range from a number to the same number is that number.

    Args:
        parameter: the rules for its values; its type says whether epochs are whole.
        table: the content of the file at `key`.
        key: the place in the file, for messages.
        ends_are_valid: whether `low` and `high`, each by itself, keep the parameter's rules.
    """
    problems = list(_key_problems(table, key))
    if problems or not ends_are_valid:
        return Fixed(None), problems
    if problem := _range_problem(parameter, table, key):
        return Fixed(None), [problem]
    low, high, step = table["low"], table["high"], table.get("step")
    if _number(low) == _number(high):
        return Fixed(low), []
    domain = Range(
        low=_number(low),
        high=_number(high),
        log=table.get("log", False),
        step=None if step is None else _number(step),
        whole=_is_whole(parameter, low, high),
        percent=isinstance(low, str),
    )
    return domain, []


def _key_problems(table: Mapping[str, Any], key: str) -> Iterator[Problem]:
    unknown = [name for name in table if name not in _KEYS]
    for name in unknown:
        hint = did_you_mean(name, (*_KEYS, "levels")) or "a range has low, high, log, step"
        yield Problem(f"{key}.{name}", "unknown key of a range", table[name], hint)
    for end in ("low", "high"):
        if end not in table and not unknown:
            yield Problem(f"{key}.{end}", "is missing: a range has low and high")


def _range_problem(parameter: Parameter, table: Mapping[str, Any], key: str) -> Problem | None:
    """Return the problem of a range whose ends are valid by themselves."""
    low, high, step, log = table["low"], table["high"], table.get("step"), table.get("log", False)
    if len({isinstance(value, str) for value in (low, high, step) if value is not None}) > 1:
        if parameter.type not in DURATIONS:
            return Problem(f"{key}.step", "must be a number greater than 0", step)
        rule = "must be all in epochs or all in shares of the horizon"
        return Problem(key, rule, dict(table))
    if not isinstance(log, bool):
        return Problem(f"{key}.log", "must be true or false", log)
    if _number(low) > _number(high):
        return Problem(f"{key}.low", f"must be at most `high`, which is {high!r}", low)
    if log and _number(low) <= 0:
        return Problem(f"{key}.low", "must be greater than 0 on a log scale", low)
    if not math.isfinite(_number(high) - _number(low)):
        return Problem(key, "is too wide: high - low must be a finite number", dict(table))
    return None if step is None else _step_problem(parameter, table, key)


def _step_problem(parameter: Parameter, table: Mapping[str, Any], key: str) -> Problem | None:
    low, high, step = table["low"], table["high"], table["step"]
    key = f"{key}.step"
    if table.get("log"):
        return Problem(key, "cannot be combined with `log`", step)
    if isinstance(step, bool) or not isinstance(step, int | float | str) or not _number(step) > 0:
        return Problem(key, "must be a number greater than 0", step)
    if _is_whole(parameter, low, high) and not isinstance(step, int):
        return Problem(key, "must be a whole number", step)
    # In decimals, since 1.0 is a multiple of 0.1 to a person but not in binary.
    first, last, by = (Decimal(str(_number(value))) for value in (low, high, step))
    if by > last - first > 0 or (last - first) / by > 1_000_000:
        return Problem(key, "must divide the range into 1 to 1,000,000 steps", step)
    if rest := (last - first) % by:
        unit = "%" if isinstance(low, str) else ""
        rule = f"must lead from `low` to `high` exactly, but high is {high!r}"
        return Problem(key, rule, step, f"high = {float(last - rest):.12g}{unit}")
    return None


def _is_whole(parameter: Parameter, low: Any, high: Any) -> bool:
    """Return whether the values are whole: counts are, and durations of a value by the step not."""
    counts = (ParameterType.COUNT, ParameterType.EPOCH_COUNT)
    if parameter.type is ParameterType.MULTIPLE:
        return all(isinstance(each, int) for each in (low, high))
    return parameter.type in counts and not isinstance(low, str)


def _number(value: float | str) -> float:
    """Return a number unchanged, and a share in percent; NaN for other text."""
    if not isinstance(value, str):
        return float(value)
    return float(value[:-1]) if parse_share(value) is not None else math.nan
