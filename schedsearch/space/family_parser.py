"""Parsing of the families of a space file into domains, collecting all problems."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from schedsearch.errors import (
    InputError,
    ParameterError,
    Problem,
    describe_schedules,
    did_you_mean,
)
from schedsearch.schedules import FAMILIES, GroupSchedule, from_table
from schedsearch.schedules.durations import Interval
from schedsearch.schedules.parameters import (
    DURATIONS,
    NUMBERS,
    Parameter,
    ParameterType,
    is_finite,
    parameters_of,
)
from schedsearch.schedules.table import other_family
from schedsearch.space.domains import (
    Domain,
    Families,
    FamilyParameters,
    Fixed,
    Levels,
    ListDomain,
)
from schedsearch.space.range_parser import parse_range
from schedsearch.space.suggesters import FixedSuggester

#: How a duration that is not whole becomes valid.
_STEP_HINT = (
    'with interval = "step" a hyperparameter changes at each optimizer step, and durations may be '
    "parts of an epoch"
)
#: Families whose list can be given as a count and one range: `segments = 3`, `values = RANGE`.
_COUNTED_LISTS = {"piecewise": ("segments", "values"), "knots": ("points", "values")}


class FamilyParser:
    """Parses families; `problems` collects what is wrong, and invalid parts are left out.

    Args:
        interval: of the hyperparameter; at "epoch" durations are whole epochs.
    """

    def __init__(self, interval: Interval = "epoch") -> None:
        self.problems: list[Problem] = []
        self._interval = interval

    def families(self, tables: Any, key: str, members: Sequence[str] | None = None) -> Families:
        """Parse a table of families, of a group if `members` are given."""
        if not isinstance(tables, Mapping) or not tables:
            self._report(key, tables, "must be a table of at least one family")
            return Families({})
        options: dict[str, FamilyParameters] = {}
        for family, given in tables.items():
            family_key = f"{key}.{family}"
            if family not in FAMILIES:
                hint = did_you_mean(family, FAMILIES) or "the families are " + ", ".join(FAMILIES)
                self._report(family_key, None, "unknown family", hint)
            elif not isinstance(given, Mapping):
                self._report(family_key, given, "must be a table of parameters")
            elif problem := _placement_problem(family, members is not None):
                self._report(family_key, None, problem)
            else:
                options[family] = self._parameters(family, given, family_key, members)
        return Families(options)

    def _parameters(
        self, family: str, given: Mapping[str, Any], key: str, members: Sequence[str] | None
    ) -> FamilyParameters:
        problems_before = len(self.problems)
        known = {p.name: p for p in parameters_of(FAMILIES[family]) if p.name != "members"}
        given = self._expand_counted_list(family, given, key)
        unknown = [name for name in given if name not in known]
        for name in unknown:
            hint = other_family(family, name) or did_you_mean(name, known)
            hint = hint or f"{family} has " + ", ".join(known)
            self._report(f"{key}.{name}", given[name], "unknown parameter", hint)
        for name, parameter in known.items():
            misspelt = any(did_you_mean(other, [name]) for other in unknown)
            if parameter.required and name not in given and not misspelt:
                self._report(f"{key}.{name}", None, "is missing and has no default")
        parsed = FamilyParameters(
            {
                name: self._parameter(known[name], value, f"{key}.{name}")
                for name, value in given.items()
                if name in known
            }
        )
        if members is not None and family == "constant" and "value" in parsed.domains:
            # Loss terms differ in scale, so each member of a group has a separate constant.
            values = ListDomain((parsed.domains["value"],) * len(members))
            parsed = FamilyParameters({"value": values})
        elif len(self.problems) == problems_before and parsed.is_fixed:
            self._check_fixed(family, parsed, key, members)
        elif len(self.problems) == problems_before:
            self._check_number_of_schedules(parsed, key)
        return parsed

    def _check_number_of_schedules(self, parsed: FamilyParameters, key: str) -> None:
        """Check the lists of a combinator, which have the same lengths in every sample."""
        schedules = parsed.domains.get("schedules")
        if isinstance(schedules, ListDomain) and len(schedules.items) < 2:
            rule = "is 1 schedule, but must be at least two schedules"
            self._report(f"{key}.schedules", None, rule)

    def _check_fixed(
        self, family: str, parsed: FamilyParameters, key: str, members: Sequence[str] | None
    ) -> None:
        """Construct a family without choices, to check the rules between its parameters."""
        is_group_family = issubclass(FAMILIES[family], GroupSchedule)
        parameters = parsed.suggest(FixedSuggester({}), key)
        try:
            from_table({family: parameters}, members if is_group_family else None)
        except ParameterError as error:
            value = list(error.value) if isinstance(error.value, tuple) else error.value
            shown = describe_schedules(value)
            if shown is None:
                self._report(f"{key}.{error.name}", value, f"must be {error.rule}")
            else:
                rule = f"is {shown}, but must be {error.rule}"
                self._report(f"{key}.{error.name}", None, rule)
        except InputError as error:
            self._report(key, None, str(error))

    def _expand_counted_list(
        self, family: str, given: Mapping[str, Any], key: str
    ) -> Mapping[str, Any]:
        """Expand `segments = 3, values = RANGE` to a list of three ranges."""
        if family not in _COUNTED_LISTS:
            return given
        count_key, list_key = _COUNTED_LISTS[family]
        values = given.get(list_key)
        if count_key not in given or isinstance(values, list):
            return given
        count = given[count_key]
        rest = {name: value for name, value in given.items() if name != count_key}
        if type(count) is not int or not 1 <= count <= 1000:
            self._report(f"{key}.{count_key}", count, "must be a whole number from 1 to 1000")
            count = 1
        return rest | ({list_key: [values] * count} if list_key in rest else {})

    def _parameter(self, parameter: Parameter, value: Any, key: str) -> Domain:
        if not parameter.is_list:
            return self._item(parameter, value, key)
        if not isinstance(value, list) or not value:
            what = "a list of at least one item, each" if value == [] else "a list, each item"
            rule = f"must be {what} {self._at_interval(parameter).type.value}"
            self._report(key, value, rule)
            return Fixed(None)
        items = (self._item(parameter, item, f"{key}.{i}") for i, item in enumerate(value))
        return ListDomain(tuple(items))

    def _item(self, parameter: Parameter, value: Any, key: str) -> Domain:
        if parameter.type is ParameterType.SCHEDULE:
            return self.families(value, key)
        if isinstance(value, Mapping):
            if "levels" in value:
                return self._levels(parameter, value, key)
            return self._range(parameter, value, key)
        self._check_value(parameter, value, key)
        return Fixed(value)

    def _levels(self, parameter: Parameter, table: Mapping[str, Any], key: str) -> Domain:
        values = table["levels"]
        for other in table.keys() - {"levels"}:
            self._report(f"{key}.{other}", table[other], "cannot be combined with `levels`")
        if not isinstance(values, list) or not values:
            self._report(f"{key}.levels", values, "must be a list of at least one value")
            return Fixed(None)
        for i, value in enumerate(values):
            self._check_value(parameter, value, f"{key}.levels.{i}")
        if len({repr(value) for value in values}) < len(values):
            self._report(f"{key}.levels", values, "must not repeat a value")
        return Fixed(values[0]) if len(values) == 1 else Levels(tuple(values))

    def _range(self, parameter: Parameter, table: Mapping[str, Any], key: str) -> Domain:
        if parameter.type not in (*NUMBERS, ParameterType.COUNT, *DURATIONS):
            rule = f"must be {self._at_interval(parameter).type.value}, or {{ levels = [...] }}"
            self._report(key, dict(table), rule)
            return Fixed(None)
        problems_before = len(self.problems)
        numeric = dataclasses.replace(parameter, may_be_rest=False)
        for end in ("low", "high"):
            if end in table:
                self._check_value(numeric, table[end], f"{key}.{end}")
        ends_are_valid = len(self.problems) == problems_before
        domain, problems = parse_range(
            self._at_interval(parameter), table, key, ends_are_valid=ends_are_valid
        )
        self.problems.extend(problems)
        return domain

    def _check_value(self, parameter: Parameter, value: Any, key: str) -> None:
        checked = self._at_interval(parameter)
        if rule := checked.violated_constraint((value,) if parameter.is_list else value):
            may_be_by_step = checked is not parameter and not key.startswith("groups.")
            hint = _STEP_HINT if may_be_by_step and _is_positive_float(value) else None
            self._report(key, value, f"must be {rule}", hint or _value_hint(parameter, value))

    def _at_interval(self, parameter: Parameter) -> Parameter:
        """Return the parameter, with whole epochs only where the value changes at epochs."""
        if self._interval == "step" or parameter.type is not ParameterType.DURATION:
            return parameter
        return dataclasses.replace(parameter, type=ParameterType.EPOCH_COUNT)

    def _report(self, key: str, value: Any, rule: str, hint: str | None = None) -> None:
        self.problems.append(Problem(key, rule, value, hint))


def _placement_problem(family: str, in_group: bool) -> str | None:
    """Return the problem of a family in the wrong kind of table; `constant` fits both kinds."""
    is_group_family = issubclass(FAMILIES[family], GroupSchedule)
    if in_group and not is_group_family and family != "constant":
        return "is a family for one hyperparameter: move it to [hyperparameters.NAME.families]"
    if is_group_family and not in_group:
        return "is a family for groups: move it to [groups.NAME.families]"
    return None


def _value_hint(parameter: Parameter, value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    if parameter.type in (*NUMBERS, ParameterType.COUNT) and _is_number(value):
        return "write it without quotes; YAML reads 1e-4 as text, and 1.0e-4 as a number"
    return did_you_mean(value, parameter.choices)


def _is_positive_float(value: Any) -> bool:
    return isinstance(value, float) and is_finite(value) and value > 0


def _is_number(text: str) -> bool:
    try:
        return is_finite(float(text))
    except ValueError:
        return False
