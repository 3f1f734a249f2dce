"""Parsing of the arguments of a space file: plain values, and tables of what may be chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schedsearch.errors import Problem
from schedsearch.schedules.parameters import Parameter, ParameterType, is_finite
from schedsearch.space.domains import Choices, Domain, Fixed, Levels, Range
from schedsearch.space.range_parser import parse_range

#: Whole numbers where both ends are whole, and else any numbers.
_NUMBER = Parameter(
    "argument",
    ParameterType.MULTIPLE,
    is_list=False,
    constraints=(),
    choices=(),
    required=False,
    default=None,
)
_VALUE_RULE = "must be text, a finite number, true or false"


def parse_arguments(given: Any) -> tuple[dict[str, Domain], list[Problem]]:
    """Return the domains of the arguments that a file gives as tables, and their problems.

    An argument may be one value, for every training, or a table: of `levels`, of a range (`low`,
    `high`, and `log` or `step`), or of one `value`, as in a config. Such an argument belongs to the
    plan. Its table may have a `default`, which trial 0 has.

    Args:
        given: the content of the file at `arguments`.
    """
    domains: dict[str, Domain] = {}
    problems: list[Problem] = []
    for name, table in given.items() if isinstance(given, Mapping) else ():
        if isinstance(table, Mapping):
            key = f"arguments.{name}"
            found = [*_default_problems(table, key)]
            rest = {part: value for part, value in table.items() if part != "default"}
            domains[str(name)], others = _parse_table(rest, key)
            problems += found + others
    return domains, [*problems, *_name_clashes(domains)]


def _name_clashes(domains: Mapping[str, Domain]) -> Iterator[Problem]:
    """Yield a problem for each argument whose parameter has the name of another one's levels."""
    for name, domain in domains.items():
        other, _, last = name.rpartition(".")
        has_levels = last == "level" and isinstance(domains.get(other), Levels)
        if has_levels and isinstance(domain, Range | Choices):
            yield Problem(
                f"arguments.{name}",
                f"has the name of the levels of `{other}` in a study: give one of the two a plain "
                "value, or rename it in the task",
            )


def _default_problems(table: Mapping[str, Any], key: str) -> Iterator[Problem]:
    if "default" in table and not is_argument(table["default"]):
        yield Problem(f"{key}.default", _VALUE_RULE, table["default"])


def _parse_table(table: Mapping[str, Any], key: str) -> tuple[Domain, list[Problem]]:
    for form in ("levels", "value"):
        if form in table:
            others = table.keys() - {form}
            problems = [
                Problem(f"{key}.{other}", f"cannot be combined with `{form}`", table[other])
                for other in sorted(map(str, others))
            ]
            if form == "levels":
                problems += _level_problems(table["levels"], f"{key}.levels")
            elif not is_argument(table["value"]):
                problems.append(Problem(f"{key}.value", _VALUE_RULE, table["value"]))
            if problems:
                return Fixed(None), problems
            return _levels(table["levels"] if form == "levels" else [table["value"]]), []
    problems = [
        Problem(f"{key}.{end}", "must be a finite number", table[end])
        for end in ("low", "high")
        if end in table and not _is_number(table[end])
    ]
    domain, others_found = parse_range(_NUMBER, table, key, ends_are_valid=not problems)
    return domain, problems + others_found


def _levels(values: list[Any]) -> Domain:
    """Return numbers as levels in their order, and other values as choices without one."""
    if len(values) == 1:
        return Fixed(values[0])
    ordered = all(map(_is_number, values)) and list(values) == sorted(values)
    return Levels(tuple(values)) if ordered else Choices(tuple(values))


def _level_problems(values: Any, key: str) -> list[Problem]:
    if not isinstance(values, list) or not values:
        return [Problem(key, "must be a list of at least one value", values)]
    problems = [
        Problem(f"{key}.{i}", _VALUE_RULE, value)
        for i, value in enumerate(values)
        if not is_argument(value)
    ]
    # Equal values of two types, such as 1 and true, would be one choice of a sampler.
    if not problems and len(set(values)) < len(values):
        problems.append(Problem(key, "must not repeat a value", values))
    return problems


def is_argument(value: object) -> bool:
    """Return whether a value may be an argument: text, a finite number, true or false."""
    return isinstance(value, str | bool) or _is_number(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value)
