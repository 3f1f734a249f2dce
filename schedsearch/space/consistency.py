"""The rules between the tables of a space file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from schedsearch.errors import Problem, did_you_mean
from schedsearch.space.document import GroupTable, HyperparameterTable
from schedsearch.space.domains import Families, Range, referenced_names, references


@dataclass(frozen=True)
class ParsedTables:
    """The tables of a file that could be parsed, even if other parts of the file are invalid."""

    hyperparameters: Mapping[str, HyperparameterTable]
    groups: Mapping[str, GroupTable]
    families: Mapping[str, Families]
    group_families: Mapping[str, Families]

    @property
    def searched(self) -> Iterator[tuple[str, Families]]:
        """The keys of the tables that are searched, with their families."""
        for kind, tables in (
            ("hyperparameters", self.families),
            ("groups", self.group_families),
        ):
            for name, families in tables.items():
                if families.options and not families.is_fixed:
                    yield f"{kind}.{name}", families


def find_inconsistencies(tables: ParsedTables) -> Iterator[Problem]:
    """Yield the problems that involve more than one value or table."""
    yield from _check_bounds(tables)
    yield from _check_members(tables)
    yield from _check_constants(tables)
    yield from _check_coupling(tables)


def find_name_clashes(tables: ParsedTables) -> Iterator[Problem]:
    """Yield a problem for each name whose parameters could be those of searched arguments.

    Both are named in one study: `arguments.width`, and `lr.family`.
    """
    for kind, names in (("hyperparameters", tables.hyperparameters), ("groups", tables.groups)):
        for name in names:
            if name.partition(".")[0] == "arguments":
                yield Problem(
                    f"{kind}.{name}",
                    "has the name of the searched arguments in a study: rename it, or give each "
                    "argument one plain value",
                )


def _check_bounds(tables: ParsedTables) -> Iterator[Problem]:
    for name, table in tables.hyperparameters.items():
        key = f"hyperparameters.{name}"
        if table.bounds is None:
            continue
        low, high = table.bounds
        if low > high:
            yield Problem(f"{key}.bounds", "must be [low, high] with low <= high", [low, high])
        elif table.round and any(end != math.floor(end) for end in (low, high)):
            rule = "must be whole numbers, since the values are rounded"
            yield Problem(f"{key}.bounds", rule, [low, high])
        elif table.default is not None and not low <= table.default <= high:
            rule = f"must be within the bounds [{low}, {high}]"
            yield Problem(f"{key}.default", rule, table.default)


def _check_members(tables: ParsedTables) -> Iterator[Problem]:
    group_of: dict[str, str] = {}
    for name, group in tables.groups.items():
        key = f"groups.{name}.members"
        if name in tables.hyperparameters:
            yield Problem(
                f"groups.{name}", "is also the name of a hyperparameter: rename the group"
            )
        for member in group.members:
            if not member.removeprefix("weights.") or not member.startswith("weights."):
                yield Problem(key, "must be the weight of a loss term, named weights.TERM", member)
            if member in tables.hyperparameters:
                yield from _check_member_interval(member, name, tables.hyperparameters[member])
            if member in tables.families:
                rule = f"also has hyperparameters.{member}.families: remove one of the two"
                yield Problem(key, rule, member)
            if member in group_of:
                yield Problem(key, f"is already a member of groups.{group_of[member]}", member)
            group_of[member] = name


def _check_member_interval(
    member: str, group: str, table: HyperparameterTable
) -> Iterator[Problem]:
    if table.interval == "step":
        rule = f'must be "epoch": it is a member of groups.{group}, whose weights change at epochs'
        yield Problem(f"hyperparameters.{member}.interval", rule, "step")


def _check_constants(tables: ParsedTables) -> Iterator[Problem]:
    """Require constants: only against the best constant can a schedule be called better."""
    for key, families in tables.searched:
        kind, _, name = key.partition(".")
        table = tables.hyperparameters.get(name)
        given = (
            table if kind == "hyperparameters" else tables.groups[name]
        ) or HyperparameterTable()
        # A misspelt `constant` is reported as an unknown family.
        if not any(did_you_mean(family, ["constant"]) for family in given.families):
            like = _initial_range(families) or _bounds_range(table) or "low = …, high = …"
            quoted = f'"{name}"' if "." in name else name
            yield Problem(
                f"{key}.families",
                "needs a `constant` family, the baseline of the schedules",
                hint=f"add [{kind}.{quoted}.families.constant] with value = {{ {like} }}",
            )


def _initial_range(families: Families) -> str | None:
    for option in families.options.values():
        initial = option.domains.get("initial")
        if isinstance(initial, Range):
            log = ", log = true" if initial.log else ""
            return f"low = {initial.low!r}, high = {initial.high!r}{log}"
    return None


def _bounds_range(table: HyperparameterTable | None) -> str | None:
    if table is None or table.bounds is None:
        return None
    low, high = table.bounds
    return f"low = {low!r}, high = {high!r}"


def _check_coupling(tables: ParsedTables) -> Iterator[Problem]:
    members = [member for group in tables.groups.values() for member in group.members]
    names = [*tables.hyperparameters, *members]
    graph = {
        name: set(referenced_names(families, "to")) for name, families in tables.families.items()
    }
    for name, families in tables.families.items():
        for key, peer in references(families, "to", f"hyperparameters.{name}.families"):
            if peer not in names:
                rule = "must be a hyperparameter of the file"
                hint = did_you_mean(peer, names) or f"add [hyperparameters.{peer}]"
                yield Problem(key, rule, peer, hint)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # Each name in the cycle is one that the next one refers to.
        peer, name, *_ = cycle = error.args[1]
        found = references(tables.families[name], "to", f"hyperparameters.{name}.families")
        key = next(key for key, to in found if to == peer)
        rule = f"must not be coupled in a cycle: {' -> '.join(cycle)}"
        if peer == name:
            rule = "must be another hyperparameter, not the one that it sets"
        yield Problem(key, rule, peer)
