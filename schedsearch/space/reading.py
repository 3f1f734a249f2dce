"""Reading a space file: the document by pydantic, the families by their own descriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schedsearch.errors import Problem, nearest
from schedsearch.space.document import Document
from schedsearch.space.parsing import FamilyParser
from schedsearch.space.templates import Families, Fixed, Levels, Parameters, Several, Template


@dataclass(frozen=True)
class Reading:
    """What a file says, and all that is wrong with it."""

    document: Document | None
    hyperparameters: Mapping[str, Families]
    groups: Mapping[str, Families]
    problems: tuple[Problem, ...]


def read(content: Mapping[str, Any]) -> Reading:
    """Check a file's content against every rule that needs no task, and collect all problems."""
    problems: list[Problem] = []
    document = None
    try:
        document = Document.model_validate(content)
    except ValidationError as error:
        problems.extend(_problem(detail) for detail in error.errors())
    parser = FamilyParser()
    hyperparameters = {
        name: parser.families(table["families"], f"hyperparameters.{name}.families")
        for name, table in _tables(content, "hyperparameters")
        if table.get("families")
    }
    groups = {
        name: _group(parser, name, table)
        for name, table in _tables(content, "groups")
        if "families" in table
    }
    problems.extend(parser.problems)
    if document is not None:
        problems.extend(_check_defaults(document))
        problems.extend(_check_members(document))
        problems.extend(_check_constants(document, hyperparameters, groups))
        problems.extend(_check_coupling(document, hyperparameters))
    return Reading(document, hyperparameters, groups, tuple(problems))


def _tables(content: Mapping[str, Any], key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    tables = content.get(key)
    if isinstance(tables, Mapping):
        for name, table in tables.items():
            if isinstance(table, Mapping):
                yield str(name), table


def _group(parser: FamilyParser, name: str, table: Mapping[str, Any]) -> Families:
    """Parse a group's families; its `constant` draws a value of its own for each member."""
    families = parser.families(table["families"], f"groups.{name}.families", group=True)
    options = dict(families.options)
    members = table.get("members")
    if "constant" in options and "value" in options["constant"].of and isinstance(members, list):
        each = options["constant"].of["value"]
        options["constant"] = Parameters({"value": Several((each,) * len(members))})
    return Families(options)


def _problem(detail: ErrorDetails) -> Problem:
    """Say a pydantic error in the words of the file."""
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return Problem(key, "there is no such key", hint=_nearest_key(detail))
    if detail["type"] == "missing":
        return Problem(key, "is missing")
    rule = detail["msg"][0].lower() + detail["msg"][1:]
    rule = rule.replace("input should be", "must be").replace("should match pattern", "must match")
    value = detail["input"]
    hint = None
    if detail["type"] == "literal_error" and isinstance(value, str):
        expected = str(detail.get("ctx", {}).get("expected", ""))
        hint = nearest(
            value, [word.strip("' ") for word in expected.replace(" or ", ",").split(",")]
        )
    return Problem(key, rule, value, hint)


def _nearest_key(detail: ErrorDetails) -> str | None:
    """Return the hint that names the nearest key of the table where an unknown key stands."""
    model: Any = Document
    *path, last = detail["loc"]
    for part in path:
        fields = getattr(model, "model_fields", {})
        if part in fields:
            model = fields[part].annotation
            arguments = getattr(model, "__args__", ())
            model = arguments[-1] if arguments else model
    return nearest(str(last), getattr(model, "model_fields", {}))


def _check_defaults(document: Document) -> Iterator[Problem]:
    for name, table in document.hyperparameters.items():
        key = f"hyperparameters.{name}"
        if table.bounds is None:
            continue
        low, high = table.bounds
        if low > high:
            yield Problem(f"{key}.bounds", "must be from low to high", list(table.bounds))
        elif table.default is not None and not low <= table.default <= high:
            yield Problem(
                f"{key}.default", f"must lie within the bounds [{low}, {high}]", table.default
            )


def _check_members(document: Document) -> Iterator[Problem]:
    claimed: dict[str, str] = {}
    for name, group in document.groups.items():
        key = f"groups.{name}.members"
        for member in group.members:
            if not member.startswith("weights."):
                yield Problem(key, "must be weights of loss terms, named weights.TERM", member)
            own = document.hyperparameters.get(member)
            if own is not None and own.families:
                rule = f"is also moved by hyperparameters.{member}.families: leave one of them out"
                yield Problem(key, rule, member)
            if member in claimed:
                yield Problem(key, f"is already a member of groups.{claimed[member]}", member)
            claimed[member] = name


def _check_constants(
    document: Document, hyperparameters: Mapping[str, Families], groups: Mapping[str, Families]
) -> Iterator[Problem]:
    """A schedule can only be said to beat the best constant if the search also tries constants."""
    for kind, searched in (("hyperparameters", hyperparameters), ("groups", groups)):
        for name, families in searched.items():
            if families.options and not families.is_fixed and "constant" not in families.options:
                key = f'{kind}."{name}"' if "." in name else f"{kind}.{name}"
                lines = f"[{key}.families.constant] value = {{ low = …, high = … }}"
                yield Problem(
                    f"{kind}.{name}.families",
                    "is searched, so it needs a `constant` family to be compared with",
                    hint=f"add: {lines}",
                )


def _check_coupling(document: Document, searched: Mapping[str, Families]) -> Iterator[Problem]:
    graph: dict[str, set[str]] = {}
    grouped = {member for group in document.groups.values() for member in group.members}
    for name, families in searched.items():
        graph[name] = set(_peers(families))
        for peer in graph[name]:
            if peer not in document.hyperparameters and peer not in grouped:
                hint = nearest(peer, document.hyperparameters)
                yield Problem(
                    f"hyperparameters.{name}.families",
                    f"is coupled to `{peer}`, which the file does not have",
                    hint=hint,
                )
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = " -> ".join(error.args[1])
        yield Problem("hyperparameters", f"are coupled in a cycle: {cycle}")


def _peers(template: Template) -> Iterator[str]:
    """Yield the hyperparameters that any schedule below a template may be coupled to."""
    if isinstance(template, Families):
        for family, option in template.options.items():
            if family == "coupled" and "to" in option.of:
                yield from _values(option.of["to"])
            yield from _peers(option)
    elif isinstance(template, Parameters):
        for item in template.of.values():
            yield from _peers(item)
    elif isinstance(template, Several):
        for item in template.items:
            yield from _peers(item)


def _values(template: Template) -> tuple[Any, ...]:
    if isinstance(template, Levels):
        return template.values
    return (template.value,) if isinstance(template, Fixed) else ()
