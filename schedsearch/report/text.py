"""Plans and durations as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schedsearch.schedules import FAMILIES
from schedsearch.schedules.durations import parse_share
from schedsearch.schedules.parameters import parameters_of


def describe_plan(tables: Mapping[str, Any]) -> list[str]:
    """Return a line for each hyperparameter or group that has a schedule, and one for arguments.

    >>> describe_plan({"hyperparameters": {"lr": {"families": {"constant": {"value": 0.003}}}}})
    ['lr: constant(value=0.003)']
    """
    return list(_lines(tables))


def _lines(tables: Mapping[str, Any]) -> Iterator[str]:
    for name, table in tables.get("hyperparameters", {}).items():
        if table.get("families"):
            yield f"{name}: {describe_families(table['families'])}"
    for table in tables.get("groups", {}).values():
        yield f"{', '.join(table['members'])}: {describe_families(table['families'])}"
    if arguments := tables.get("arguments"):
        yield describe_arguments(arguments)


def describe_arguments(tables: Mapping[str, Any]) -> str:
    """Return a line for the arguments of a plan.

    >>> describe_arguments({"hidden": {"value": 64}, "nesterov": {"value": True}})
    'arguments: hidden=64, nesterov=true'
    """
    shown = (f"{name}={describe_value(table['value'])}" for name, table in tables.items())
    return f"arguments: {', '.join(shown)}"


def describe_families(families: Mapping[str, Any]) -> str:
    """Return a schedule's table as a call, without the parameters at their defaults.

    >>> describe_families({"warmup": {"inner": {"constant": {"value": 0.1}}, "factor": 0.5}})
    'warmup(inner=constant(value=0.1), factor=0.5)'
    """
    [(family, parameters)] = families.items()
    known = parameters_of(FAMILIES[family])
    defaults = {p.name: p.default for p in known if not p.required}
    options = {p.name for p in known if p.is_option}
    arguments = ", ".join(
        f"{name}={describe_value(parameters[name])}"
        for name in sorted(parameters, key=lambda name: name in options)
        if name not in defaults or defaults[name] != parameters[name]
    )
    return f"{family}({arguments})"


def describe_value(value: Any) -> str:
    """Return a value of a plan as text; a share of the horizon as a percentage.

    >>> describe_value([0.123456, True])
    '[0.1235, true]'
    """
    if isinstance(value, Mapping):
        return describe_families(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(describe_value, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and (fraction := parse_share(value)) is not None:
        return f"{100 * fraction:.3g}%"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def describe_seconds(seconds: float) -> str:
    """Return a duration in hours, minutes and seconds.

    >>> describe_seconds(7), describe_seconds(95), describe_seconds(7260)
    ('7 s', '1 min 35 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
