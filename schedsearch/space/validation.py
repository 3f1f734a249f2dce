"""Validation of a space file: the document by pydantic, the families by their parameter rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schedsearch.errors import Problem, did_you_mean
from schedsearch.schedules.durations import Interval
from schedsearch.space.argument_parser import parse_arguments
from schedsearch.space.consistency import (
    ParsedTables,
    find_inconsistencies,
    find_name_clashes,
)
from schedsearch.space.document import (
    Document,
    GroupTable,
    HyperparameterTable,
    Objective,
    Search,
)
from schedsearch.space.domains import Domain, Families
from schedsearch.space.family_parser import FamilyParser

_Table = TypeVar("_Table", bound=BaseModel)
#: Tables whose keys are often written at the top level by mistake.
_TABLES: dict[str, type[BaseModel]] = {"search": Search, "objective": Objective}


@dataclass(frozen=True)
class ValidationResult:
    """The parsed content of a file and all its problems; without problems there is a document."""

    document: Document | None
    hyperparameters: Mapping[str, Families]
    groups: Mapping[str, Families]
    arguments: Mapping[str, Domain]
    problems: tuple[Problem, ...]


def validate_document(content: Mapping[str, Any]) -> ValidationResult:
    """Check the content of a file against every rule that needs no task, and collect all problems.

    A problem in one place does not keep the checks of another place from running.
    """
    problems: list[Problem] = []
    document = None
    try:
        document = Document.model_validate(content)
    except ValidationError as error:
        problems.extend(map(_to_problem, error.errors(include_url=False)))
    arguments, of_arguments = parse_arguments(content.get("arguments"))
    problems.extend(of_arguments)
    tables = _parse_tables(content, problems)
    if arguments:
        problems.extend(find_name_clashes(tables))
    problems.extend(find_inconsistencies(tables))
    return ValidationResult(
        document, tables.families, tables.group_families, arguments, tuple(problems)
    )


def _parse_tables(content: Mapping[str, Any], problems: list[Problem]) -> ParsedTables:
    """Return the tables that can be parsed; problems of the families are added to `problems`."""
    given = dict(_tables(content, "hyperparameters"))
    hyperparameters = {
        name: _validate_partially(HyperparameterTable, table) or HyperparameterTable()
        for name, table in given.items()
    }
    groups = {
        name: group
        for name, table in _tables(content, "groups")
        if (group := _validate_partially(GroupTable, table)) is not None
    }
    families = {}
    for name, table in hyperparameters.items():
        if table.families:
            parser = FamilyParser(_interval_of(given[name]))
            key = f"hyperparameters.{name}.families"
            families[name] = parser.families(table.families, key)
            problems.extend(parser.problems)
    group_parser = FamilyParser()
    group_families = {
        # Placeholder names, so that a problem of the members is reported only once.
        name: group_parser.families(
            group.families,
            f"groups.{name}.families",
            [f"weights.{i}" for i in range(len(group.members))],
        )
        for name, group in groups.items()
    }
    problems.extend(group_parser.problems)
    return ParsedTables(hyperparameters, groups, families, group_families)


def _interval_of(table: Mapping[str, Any]) -> Interval:
    """Return the interval for the checks of durations; a wrong one permits parts of an epoch.

    So a misspelt "step" is reported once, and not again for each duration.
    """
    return "epoch" if table.get("interval", "epoch") == "epoch" else "step"


def _tables(content: Mapping[str, Any], key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    tables = content.get(key)
    if isinstance(tables, Mapping):
        for name, table in tables.items():
            if isinstance(table, Mapping):
                yield str(name), table


def _validate_partially(model: type[_Table], table: Mapping[str, Any]) -> _Table | None:
    """Return a table without its invalid keys; None if a required one is invalid."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        invalid = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
    valid = {key: value for key, value in table.items() if key not in invalid}
    return _validate_partially(model, valid) if len(valid) < len(table) else None


def _to_problem(detail: ErrorDetails) -> Problem:
    """Translate a pydantic error into the terms of the file."""
    key = ".".join(str(part) for part in detail["loc"] if part != "[key]")
    value = detail["input"]
    match detail["type"]:
        case "missing":
            return Problem(key, "is missing")
        case "extra_forbidden":
            shown = None if isinstance(value, Mapping) else value
            return Problem(key, "unknown key", shown, _key_hint(detail))
        case "literal_error":
            words = str(detail["ctx"]["expected"]).replace("'", "").replace(" or ", ", ")
            hint = did_you_mean(value, words.split(", ")) if isinstance(value, str) else None
            return Problem(key, f"must be one of {words}", value, hint)
    rule = _RULES.get(detail["type"], detail["msg"].replace("Input should be", "must be"))
    return Problem(key, rule.format_map(detail.get("ctx", {})), value)


_RULES = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "list_type": "must be a list",
    "tuple_type": "must be a list: [low, high]",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "string_too_long": "must have at most {max_length} characters",
    "value_error": "{error}",
}


def _key_hint(detail: ErrorDetails) -> str | None:
    """Return a hint for a key that its table does not have."""
    *path, last = detail["loc"]
    model: Any = Document
    for part in path:
        is_mapping = get_origin(model) is dict
        model = get_args(model)[1] if is_mapping else model.model_fields[part].annotation
        if isinstance(model, UnionType):  # a table that may be left out
            model = get_args(model)[0]
    if model is Document:
        for table, options in _TABLES.items():
            if last in options.model_fields:
                return f"move it to [{table}]"
    if hint := did_you_mean(str(last), model.model_fields):
        return hint
    if model is HyperparameterTable and isinstance(detail["input"], Mapping):
        return f'put a name with a dot in quotes: [hyperparameters."{path[-1]}.{last}"]'
    return "the keys are " + ", ".join(model.model_fields)
