"""Conversion of schedules to and from the tables of a config file.

A schedule is a table with one family and its parameters:

    {"exponential": {"initial": 1.0, "decay_rate": 0.9}}

A parameter that is a schedule is again such a table. The members of a group stand beside its
families, not among the parameters, and so does the version of the rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from schedsearch.errors import InputError, ParameterError, did_you_mean
from schedsearch.schedules.base import GroupSchedule, Schedule
from schedsearch.schedules.durations import CURRENT_VERSION
from schedsearch.schedules.families import FAMILIES
from schedsearch.schedules.parameters import Parameter, ParameterType, is_finite, parameters_of


def to_table(schedule: Schedule) -> dict[str, Any]:
    """Return the table of a schedule; `from_table` converts it back to an equal schedule.

    >>> from schedsearch.schedules import Exponential
    >>> to_table(Exponential(initial=1.0, decay_rate=0.9))
    {'exponential': {'initial': 1.0, 'decay_rate': 0.9}}
    """
    known = {parameter.name: parameter for parameter in parameters_of(type(schedule))}
    parameters = {}
    # In the order of the fields, which hashes of stored plans depend on.
    for field in dataclasses.fields(schedule):
        parameter, value = known.get(field.name), getattr(schedule, field.name)
        if parameter is None or parameter.name == "members":
            continue
        if not (parameter.is_option and value == parameter.default):
            parameters[parameter.name] = _to_plain(parameter, value)
    return {schedule.family: parameters}


def from_table(
    table: Mapping[str, Any],
    members: Sequence[str] | None = None,
    version: int = CURRENT_VERSION,
) -> Schedule:
    """Return the schedule in a table; a family that sets a group of weights needs `members`.

    The table does not say the version of the rules that the schedule follows.

    >>> from_table({"exponential": {"initial": 1, "decay_rate": 0.9}})
    Exponential(initial=1.0, decay_rate=0.9)

    Raises:
        ParameterError: a parameter breaks a rule.
        InputError: there is not exactly one family, the family is unknown, or a parameter is
            unknown or missing.
    """
    if len(table) != 1:
        raise InputError(f"a schedule must be a table with exactly one family, not {sorted(table)}")
    [(family, given)] = table.items()
    cls = family_by_name(family)
    if not isinstance(given, Mapping):
        raise ParameterError(family, "parameters", given, "a table of parameters")
    if issubclass(cls, GroupSchedule) != (members is not None):
        sets = "a group of weights" if members is None else "one hyperparameter, not a group"
        raise InputError(f"family `{family}` sets {sets}")
    known = {p.name: p for p in parameters_of(cls) if p.name != "members"}
    for name in given:
        if name not in known:
            hint = other_family(family, name) or did_you_mean(name, known)
            raise InputError(
                f"{family} has no parameter `{name}`: "
                f"{hint or 'the parameters are ' + ', '.join(known)}"
            )
    if missing := [p.name for p in known.values() if p.required and p.name not in given]:
        raise InputError(f"{family}: `{missing[0]}` is missing, and has no default")
    values = {name: _from_plain(known[name], value, version) for name, value in given.items()}
    if members is not None:
        values["members"] = tuple(members)
    return cls(**values, version=version)


def other_family(family: str, parameter: str) -> str | None:
    """Return a hint at the family that has a parameter which this one lacks, or None."""
    if (family, parameter) in (("exponential", "final"), ("exponential", "duration")):
        return "an exponential curve to a final value is the family `geometric`"
    return None


def family_by_name(name: str) -> type[Schedule]:
    """Return the family with this name.

    Raises:
        InputError: there is no such family; the message suggests a similar name.
    """
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


def _from_plain(parameter: Parameter, value: Any, version: int) -> Any:
    if not parameter.is_list:
        return _item_from_plain(parameter, value, version)
    if not isinstance(value, list | tuple):
        return value
    return tuple(_item_from_plain(parameter, item, version) for item in value)


def _item_from_plain(parameter: Parameter, value: Any, version: int) -> Any:
    """Convert tables to schedules and whole numbers to floats; the constructor checks the rest."""
    if parameter.type is ParameterType.SCHEDULE and isinstance(value, Mapping):
        return from_table(value, version=version)
    if parameter.type is ParameterType.NUMBER and type(value) is int and is_finite(value):
        return float(value)
    return value
