"""Reading a space file: the document by pydantic, the families by their own descriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schedsearch.errors import Problem, did_you_mean
from schedsearch.space.consistency import Draft, broken_rules
from schedsearch.space.document import (
    Document,
    GroupTable,
    HyperparameterTable,
    Objective,
    Search,
)
from schedsearch.space.parsing import FamilyParser
from schedsearch.space.templates import Families

_Table = TypeVar("_Table", bound=BaseModel)
#: Tables whose keys are taken for a document's own, where they stand outside of any.
_TABLES: dict[str, type[BaseModel]] = {"search": Search, "objective": Objective}


@dataclass(frozen=True)
class Reading:
    """What a file says, and all that is wrong with it."""

    document: Document | None
    hyperparameters: Mapping[str, Families]
    groups: Mapping[str, Families]
    problems: tuple[Problem, ...]


def read(content: Mapping[str, Any]) -> Reading:
    """Check a file's content against every rule that needs no task, and collect all problems.

    What is wrong in one place keeps no check from running in another.
    """
    problems: list[Problem] = []
    document = None
    try:
        document = Document.model_validate(content)
    except ValidationError as error:
        problems.extend(map(_problem, error.errors(include_url=False)))
    draft = _draft(content, problems)
    problems.extend(broken_rules(draft))
    return Reading(document, draft.families, draft.group_families, tuple(problems))


def _draft(content: Mapping[str, Any], problems: list[Problem]) -> Draft:
    """Return what can be made of the content; the families' mistakes are added to the problems."""
    parser = FamilyParser()
    hyperparameters = {
        name: _salvaged(HyperparameterTable, table) or HyperparameterTable()
        for name, table in _tables(content, "hyperparameters")
    }
    groups = {
        name: group
        for name, table in _tables(content, "groups")
        if (group := _salvaged(GroupTable, table)) is not None
    }
    families = {
        name: parser.families(table.families, f"hyperparameters.{name}.families")
        for name, table in hyperparameters.items()
        if table.families
    }
    group_families = {
        # Stand-ins: what is wrong with the members is said once, where they stand.
        name: parser.families(
            group.families,
            f"groups.{name}.families",
            [f"weights.{i}" for i in range(len(group.members))],
        )
        for name, group in groups.items()
    }
    problems.extend(parser.problems)
    return Draft(hyperparameters, groups, families, group_families)


def _tables(content: Mapping[str, Any], key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    tables = content.get(key)
    if isinstance(tables, Mapping):
        for name, table in tables.items():
            if isinstance(table, Mapping):
                yield str(name), table


def _salvaged(model: type[_Table], table: Mapping[str, Any]) -> _Table | None:
    """Return a table without what is wrong in it; None if something required is."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        wrong = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
    right = {key: value for key, value in table.items() if key not in wrong}
    return _salvaged(model, right) if len(right) < len(table) else None


def _problem(detail: ErrorDetails) -> Problem:
    """Say a pydantic error in the words of the file."""
    key = ".".join(str(part) for part in detail["loc"] if part != "[key]")
    value = detail["input"]
    match detail["type"]:
        case "missing":
            return Problem(key, "is missing")
        case "extra_forbidden":
            shown = None if isinstance(value, Mapping) else value
            return Problem(key, "there is no such key", shown, _nearest_key(detail))
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
    "string_pattern_mismatch": "must match {pattern}: no spaces, no commas",
    "value_error": "{error}",
}


def _nearest_key(detail: ErrorDetails) -> str | None:
    """Return what may be meant by a key that the table where it stands does not have."""
    *path, last = detail["loc"]
    model: Any = Document
    for part in path:
        of_tables = get_origin(model) is dict
        model = get_args(model)[1] if of_tables else model.model_fields[part].annotation
    if model is Document:
        for table, options in _TABLES.items():
            if last in options.model_fields:
                return f"it belongs in [{table}]"
    if hint := did_you_mean(str(last), model.model_fields):
        return hint
    if model is HyperparameterTable and isinstance(detail["input"], Mapping):
        return f'put a name with a dot in quotes: [hyperparameters."{path[-1]}.{last}"]'
    return "the keys are " + ", ".join(model.model_fields)
