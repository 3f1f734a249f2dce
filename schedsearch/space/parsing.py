"""From the families of a space file to templates, collecting every mistake on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schedsearch.errors import InputError, Problem, did_you_mean
from schedsearch.schedules import FAMILIES, GroupSchedule, from_table
from schedsearch.schedules.parameters import Parameter, ParameterType, is_finite, parameters_of
from schedsearch.space.choosers import FixedChooser
from schedsearch.space.ranges import parse_range
from schedsearch.space.templates import Families, Fixed, Levels, Parameters, Several, Template

#: How a list of draws alike is written: `segments = 3` beside `values = RANGE`.
_REPEATS = {"piecewise": ("segments", "values"), "knots": ("points", "values")}


class FamilyParser:
    """Parses families; `problems` collects the mistakes, and what is wrong is left out."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def families(self, tables: Any, key: str, members: Sequence[str] | None = None) -> Families:
        """Parse a table of families, for one hyperparameter, or for a group with its members."""
        if not isinstance(tables, Mapping) or not tables:
            self._problem(key, tables, "must be a table of at least one family")
            return Families({})
        options: dict[str, Parameters] = {}
        for family, given in tables.items():
            here = f"{key}.{family}"
            if family not in FAMILIES:
                hint = did_you_mean(family, FAMILIES) or "the families are " + ", ".join(FAMILIES)
                self._problem(here, None, "there is no such family", hint)
            elif not isinstance(given, Mapping):
                self._problem(here, given, "must be a table of parameters")
            elif problem := _misplaced(family, members is not None):
                self._problem(here, None, problem)
            else:
                options[family] = self._parameters(family, given, here, members)
        return Families(options)

    def _parameters(
        self, family: str, given: Mapping[str, Any], key: str, members: Sequence[str] | None
    ) -> Parameters:
        before = len(self.problems)
        known = {p.name: p for p in parameters_of(FAMILIES[family]) if p.name != "members"}
        given = self._written_out(family, given, key)
        unknown = [name for name in given if name not in known]
        for name in unknown:
            hint = did_you_mean(name, known) or f"{family} has " + ", ".join(known)
            self._problem(f"{key}.{name}", given[name], "there is no such parameter", hint)
        for name, parameter in known.items():
            misspelt = any(did_you_mean(other, [name]) for other in unknown)
            if parameter.required and name not in given and not misspelt:
                self._problem(f"{key}.{name}", None, "is missing, and has no default")
        template = Parameters(
            {
                name: self._parameter(known[name], value, f"{key}.{name}")
                for name, value in given.items()
                if name in known
            }
        )
        if members is not None and family == "constant" and "value" in template.of:
            # Loss terms differ in size: each member of a group has a constant of its own.
            template = Parameters({"value": Several((template.of["value"],) * len(members))})
        elif len(self.problems) == before and template.is_fixed:
            self._check_fixed(family, template, key, members)
        return template

    def _check_fixed(
        self, family: str, template: Parameters, key: str, members: Sequence[str] | None
    ) -> None:
        """Construct the family where nothing is drawn, so that rules across parameters speak."""
        moves_group = issubclass(FAMILIES[family], GroupSchedule)
        try:
            from_table(
                {family: template.draw(FixedChooser({}), key)}, members if moves_group else None
            )
        except InputError as error:
            self._problem(key, None, str(error))

    def _written_out(self, family: str, given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        """Write `segments = 3, values = RANGE` out as a list of three ranges."""
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
            count = 1
        return rest | ({list_key: [values] * count} if list_key in rest else {})

    def _parameter(self, parameter: Parameter, value: Any, key: str) -> Template:
        if not parameter.is_list:
            return self._item(parameter, value, key)
        if not isinstance(value, list) or not value:
            self._problem(key, value, f"must be a list, each item {parameter.type.value}")
            return Fixed(None)
        return Several(tuple(self._item(parameter, v, f"{key}.{i}") for i, v in enumerate(value)))

    def _item(self, parameter: Parameter, value: Any, key: str) -> Template:
        if parameter.type is ParameterType.SCHEDULE:
            return self.families(value, key)
        if isinstance(value, Mapping):
            if "levels" in value:
                return self._levels(parameter, value, key)
            return self._range(parameter, value, key)
        self._check_value(parameter, value, key)
        return Fixed(value)

    def _levels(self, parameter: Parameter, table: Mapping[str, Any], key: str) -> Template:
        values = table["levels"]
        for other in table.keys() - {"levels"}:
            self._problem(f"{key}.{other}", table[other], "cannot stand beside `levels`")
        if not isinstance(values, list) or not values:
            self._problem(f"{key}.levels", values, "must be a list of at least one value")
            return Fixed(None)
        for i, value in enumerate(values):
            self._check_value(parameter, value, f"{key}.levels.{i}")
        if len({repr(value) for value in values}) < len(values):
            self._problem(f"{key}.levels", values, "must not repeat a value")
        return Fixed(values[0]) if len(values) == 1 else Levels(tuple(values))

    def _range(self, parameter: Parameter, table: Mapping[str, Any], key: str) -> Template:
        if parameter.type not in (
            ParameterType.NUMBER,
            ParameterType.COUNT,
            ParameterType.DURATION,
        ):
            rule = f"must be {parameter.type.value}, or {{ levels = [...] }}"
            self._problem(key, dict(table), rule)
            return Fixed(None)
        before = len(self.problems)
        for end in ("low", "high"):
            if end in table:
                self._check_value(parameter, table[end], f"{key}.{end}")
        template, problems = parse_range(parameter, table, key, sound=len(self.problems) == before)
        self.problems.extend(problems)
        return template

    def _check_value(self, parameter: Parameter, value: Any, key: str) -> None:
        if rule := parameter.violated_constraint((value,) if parameter.is_list else value):
            self._problem(key, value, f"must be {rule}", _hint(parameter, value))

    def _problem(self, key: str, value: Any, rule: str, hint: str | None = None) -> None:
        self.problems.append(Problem(key, rule, value, hint))


def _misplaced(family: str, in_group: bool) -> str | None:
    """Say why a family cannot stand where it does; `constant` can stand in both places."""
    moves_group = issubclass(FAMILIES[family], GroupSchedule)
    if in_group and not moves_group and family != "constant":
        return "moves one hyperparameter, not a group"
    if moves_group and not in_group:
        return "moves a group of weights: write it under [groups.NAME.families]"
    return None


def _hint(parameter: Parameter, value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    if parameter.type in (ParameterType.NUMBER, ParameterType.COUNT) and _is_number(value):
        return "write it without quotes; YAML takes 1e-4 for text, and 1.0e-4 for a number"
    return did_you_mean(value, parameter.choices)


def _is_number(text: str) -> bool:
    try:
        return is_finite(float(text))
    except ValueError:
        return False
