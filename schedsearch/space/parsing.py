"""From the families of a space file to templates, collecting every mistake on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from schedsearch.errors import InputError, Problem, nearest
from schedsearch.schedules import FAMILIES, GroupSchedule, from_table
from schedsearch.schedules.parameters import Kind, Parameter, parameters_of, share
from schedsearch.space.templates import (
    Families,
    Fixed,
    Levels,
    Parameters,
    Range,
    Several,
    Template,
)

_RANGE_KEYS = frozenset({"low", "high", "log", "step"})
#: How a list of draws alike is written: `segments = 3` beside `values = RANGE`.
_REPEATS = {"piecewise": ("segments", "values"), "knots": ("points", "values")}


class FamilyParser:
    """Parses families; `problems` collects the mistakes, and what is wrong is left out."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def families(self, tables: Any, key: str, *, group: bool = False) -> Families:
        """Parse a table of families, for one hyperparameter or for a group."""
        if not isinstance(tables, Mapping):
            self._problem(key, tables, "must be a table of families")
            return Families({})
        options: dict[str, Parameters] = {}
        for family, given in tables.items():
            here = f"{key}.{family}"
            if family not in FAMILIES:
                hint = nearest(family, FAMILIES) or "the families are " + ", ".join(FAMILIES)
                self._problem(here, None, "there is no such family", hint)
            elif not isinstance(given, Mapping):
                self._problem(here, given, "must be a table of parameters")
            elif problem := _misplaced(family, group):
                self._problem(here, None, problem)
            else:
                options[family] = self._parameters(family, given, here)
        return Families(options)

    def _parameters(self, family: str, given: Mapping[str, Any], key: str) -> Parameters:
        known = {p.name: p for p in parameters_of(FAMILIES[family]) if p.name != "members"}
        given = self._unrolled(family, given, key)
        for name in given:
            if name not in known:
                hint = nearest(name, known) or f"{family} has " + ", ".join(known)
                self._problem(f"{key}.{name}", given[name], "there is no such parameter", hint)
        for name, parameter in known.items():
            if parameter.required and name not in given:
                self._problem(f"{key}.{name}", None, "is missing, and has no default")
        templates = {
            name: self._parameter(known[name], value, f"{key}.{name}")
            for name, value in given.items()
            if name in known
        }
        self._check_whole(family, templates, key)
        return Parameters(templates)

    def _unrolled(self, family: str, given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        """Write out `segments = 3, values = RANGE` as a list of three ranges."""
        if family not in _REPEATS:
            return given
        count_key, list_key = _REPEATS[family]
        values = given.get(list_key)
        if count_key not in given or isinstance(values, list):
            return given
        count = given[count_key]
        rest = {name: value for name, value in given.items() if name != count_key}
        if type(count) is not int or not 1 <= count <= 1000:
            self._problem(f"{key}.{count_key}", count, "must be a whole number from 1 to 1000")
            return rest
        return rest | {list_key: [values] * count}

    def _check_whole(self, family: str, templates: Mapping[str, Template], key: str) -> None:
        """Construct the family where nothing is drawn, so that rules across parameters speak too."""
        cls = FAMILIES[family]
        if issubclass(cls, GroupSchedule) or not all(
            isinstance(t, Fixed) for t in templates.values()
        ):
            return
        if any(p.key.startswith(key) for p in self.problems):
            return
        try:
            from_table({family: {n: t.value for n, t in templates.items() if isinstance(t, Fixed)}})
        except InputError as error:
            self._problem(key, None, str(error))

    def _parameter(self, parameter: Parameter, value: Any, key: str) -> Template:
        if not parameter.many:
            return self._item(parameter, value, key)
        if not isinstance(value, list) or not value:
            self._problem(key, value, f"must be a list, each item {parameter.kind.value}")
            return Fixed([])
        return Several(tuple(self._item(parameter, v, f"{key}.{i}") for i, v in enumerate(value)))

    def _item(self, parameter: Parameter, value: Any, key: str) -> Template:
        if parameter.kind is Kind.SCHEDULE:
            return self.families(value, key)
        if isinstance(value, Mapping):
            return (
                self._levels(parameter, value, key)
                if "levels" in value
                else self._range(parameter, value, key)
            )
        self._check_value(parameter, value, key)
        return Fixed(value)

    def _levels(self, parameter: Parameter, table: Mapping[str, Any], key: str) -> Template:
        values = table["levels"]
        if len(table) > 1:
            other = next(name for name in table if name != "levels")
            self._problem(f"{key}.{other}", table[other], "cannot stand beside `levels`")
        if not isinstance(values, list) or not values:
            self._problem(f"{key}.levels", values, "must be a list of at least one value")
            return Levels(())
        for i, value in enumerate(values):
            self._check_value(parameter, value, f"{key}.levels.{i}")
        if len({repr(value) for value in values}) < len(values):
            self._problem(f"{key}.levels", values, "must not repeat a value")
        return Levels(tuple(values))

    def _range(self, parameter: Parameter, table: Mapping[str, Any], key: str) -> Template:
        nothing = Fixed(None)
        if parameter.kind not in (Kind.NUMBER, Kind.COUNT, Kind.DURATION):
            self._problem(
                key, dict(table), f"must be {parameter.kind.value}, or {{ levels = [...] }}"
            )
            return nothing
        for name in table:
            if name not in _RANGE_KEYS:
                hint = nearest(name, [*_RANGE_KEYS, "levels"]) or "a range has low, high, log, step"
                self._problem(f"{key}.{name}", table[name], "there is no such key in a range", hint)
        ends = {name: table[name] for name in ("low", "high") if name in table}
        for name in ("low", "high"):
            if name not in ends:
                self._problem(f"{key}.{name}", None, "is missing: a range has low and high")
        before = len(self.problems)
        for name, value in ends.items():
            self._check_value(parameter, value, f"{key}.{name}")
        if len(ends) < 2 or len(self.problems) > before:
            return nothing
        if problem := _range_problem(parameter, table, key):
            self.problems.append(problem)
            return nothing
        return _make_range(parameter, table)

    def _check_value(self, parameter: Parameter, value: Any, key: str) -> None:
        rule = parameter.broken_rule((value,) if parameter.many else value)
        if rule:
            hint = nearest(value, parameter.choices) if isinstance(value, str) else None
            self._problem(key, value, f"must be {rule}", hint)

    def _problem(self, key: str, value: Any, rule: str, hint: str | None = None) -> None:
        self.problems.append(Problem(key, rule, value, hint))


def _misplaced(family: str, group: bool) -> str | None:
    """Say why a family cannot stand where it does. A group's `constant` draws one per member."""
    moves_group = issubclass(FAMILIES[family], GroupSchedule)
    if group and not moves_group and family != "constant":
        return "moves one hyperparameter, not a group"
    if moves_group and not group:
        return "moves a group of weights: write it under [groups.NAME.families]"
    return None


def _range_problem(parameter: Parameter, table: Mapping[str, Any], key: str) -> Problem | None:
    """Return what is wrong with a range whose ends are each right on their own."""
    low, high, step, log = table["low"], table["high"], table.get("step"), table.get("log", False)
    units = {isinstance(value, str) for value in (low, high, step) if value is not None}
    if len(units) > 1:
        rule = "must be all in epochs or all in shares of the horizon"
        return Problem(key, rule, dict(table))
    if not isinstance(log, bool):
        return Problem(f"{key}.log", "must be true or false", log)
    if _number(low) > _number(high):
        return Problem(f"{key}.low", f"must be at most `high`, which is {high!r}", low)
    if log and _number(low) <= 0:
        return Problem(f"{key}.low", "must be greater than 0 on a log scale", low)
    if step is None:
        return None
    if log:
        return Problem(f"{key}.step", "cannot stand beside `log`", step)
    if isinstance(step, bool) or not isinstance(step, int | float | str) or not _number(step) > 0:
        return Problem(f"{key}.step", "must be a number greater than 0", step)
    if _is_whole(parameter, low) and not isinstance(step, int):
        return Problem(f"{key}.step", "must be a whole number", step)
    return None


def _make_range(parameter: Parameter, table: Mapping[str, Any]) -> Range:
    step = table.get("step")
    return Range(
        low=_number(table["low"]),
        high=_number(table["high"]),
        log=table.get("log", False),
        step=None if step is None else _number(step),
        whole=_is_whole(parameter, table["low"]),
        percent=isinstance(table["low"], str),
    )


def _is_whole(parameter: Parameter, end: Any) -> bool:
    return parameter.kind is not Kind.NUMBER and not isinstance(end, str)


def _number(value: float | str) -> float:
    """Return a number as it is, and the number of percents of a share; NaN if it is neither."""
    if not isinstance(value, str):
        return float(value)
    return float(value[:-1]) if share(value) is not None else math.nan
