"""Schedules to and from the plain tables that a config file holds.

    {"exponential": {"initial": 1.0, "decay_rate": 0.9}}

is a schedule: one family, and its parameters. A parameter that is itself a schedule is again such
a table. A group's members are written beside its families, not among their parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schedsearch.errors import InputError, ParameterError, did_you_mean
from schedsearch.schedules.base import GroupSchedule, Schedule
from schedsearch.schedules.families import FAMILIES
from schedsearch.schedules.parameters import Parameter, ParameterType, is_finite, parameters_of


def to_table(schedule: Schedule) -> dict[str, Any]:
    """Return the table that `from_table` turns back into an equal schedule.

    >>> from schedsearch.schedules import Exponential
    >>> to_table(Exponential(initial=1.0, decay_rate=0.9))
    {'exponential': {'initial': 1.0, 'decay_rate': 0.9}}
    """
    own = {
        parameter.name: _to_plain(parameter, getattr(schedule, parameter.name))
        for parameter in parameters_of(type(schedule))
        if parameter.name != "members"
    }
    return {schedule.family: own}


def from_table(table: Mapping[str, Any], members: Sequence[str] | None = None) -> Schedule:
    """Return the schedule that a table holds; `members` are given for a group.

    >>> from_table({"exponential": {"initial": 1, "decay_rate": 0.9}})
    Exponential(initial=1.0, decay_rate=0.9)

    Raises:
        ParameterError: a parameter breaks its rule.
        InputError: not exactly one family, an unknown one, or a parameter unknown or missing.
    """
    if len(table) != 1:
        raise InputError(
            f"a schedule is a table that holds exactly one family, not {sorted(table)}"
        )
    [(family, given)] = table.items()
    cls = family_by_name(family)
    if not isinstance(given, Mapping):
        raise ParameterError(family, "parameters", given, "a table of parameters")
    if issubclass(cls, GroupSchedule) != (members is not None):
        needs = (
            "moves a group of weights"
            if members is None
            else "moves one hyperparameter, not a group"
        )
        raise InputError(f"family `{family}` {needs}")
    known = {p.name: p for p in parameters_of(cls) if p.name != "members"}
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known)
            raise InputError(
                f"{family} has no parameter `{name}`: {hint or 'it has ' + ', '.join(known)}"
            )
    if missing := [p.name for p in known.values() if p.required and p.name not in given]:
        raise InputError(f"{family}: `{missing[0]}` is missing, and has no default")
    values = {name: _from_plain(known[name], value) for name, value in given.items()}
    if members is not None:
        values["members"] = tuple(members)
    return cls(**values)


def family_by_name(name: str) -> type[Schedule]:
    """Return the family of that name; raise InputError with the nearest one if there is none."""
    if name not in FAMILIES:
        hint = did_you_mean(name, FAMILIES) or "the families are " + ", ".join(FAMILIES)
        raise InputError(f"there is no family `{name}`: {hint}")
    return FAMILIES[name]


def _to_plain(parameter: Parameter, value: Any) -> Any:
    if parameter.is_list:
        return [_item_to_plain(parameter, item) for item in value]
    return _item_to_plain(parameter, value)


def _item_to_plain(parameter: Parameter, value: Any) -> Any:
    return to_table(value) if parameter.type is ParameterType.SCHEDULE else value


def _from_plain(parameter: Parameter, value: Any) -> Any:
    if not parameter.is_list:
        return _item_from_plain(parameter, value)
    if not isinstance(value, list | tuple):
        return value
    return tuple(_item_from_plain(parameter, item) for item in value)


def _item_from_plain(parameter: Parameter, value: Any) -> Any:
    """Turn a table into a schedule and a whole number into a float; leave the rest to the rules."""
    if parameter.type is ParameterType.SCHEDULE and isinstance(value, Mapping):
        return from_table(value)
    if parameter.type is ParameterType.NUMBER and type(value) is int and is_finite(value):
        return float(value)
    return value
