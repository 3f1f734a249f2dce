"""The rules between the tables of a space file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from schedsearch.errors import Problem, did_you_mean
from schedsearch.space.document import GroupTable, HyperparameterTable
from schedsearch.space.templates import Families, Range, texts_of


@dataclass(frozen=True)
class Draft:
    """What could be read of a file, whatever else is wrong with it."""

    hyperparameters: Mapping[str, HyperparameterTable]
    groups: Mapping[str, GroupTable]
    families: Mapping[str, Families]
    group_families: Mapping[str, Families]

    @property
    def searched(self) -> Iterator[tuple[str, Families]]:
        """The keys of the tables that have something to choose, and their families."""
        for kind, searched in (
            ("hyperparameters", self.families),
            ("groups", self.group_families),
        ):
            for name, families in searched.items():
                if families.options and not families.is_fixed:
                    yield f"{kind}.{name}", families


def broken_rules(draft: Draft) -> Iterator[Problem]:
    """Yield every mistake that only shows where tables meet."""
    yield from _check_defaults(draft)
    yield from _check_members(draft)
    yield from _check_constants(draft)
    yield from _check_coupling(draft)


def _check_defaults(draft: Draft) -> Iterator[Problem]:
    for name, table in draft.hyperparameters.items():
        key = f"hyperparameters.{name}"
        if table.bounds is None:
            continue
        low, high = table.bounds
        if low > high:
            yield Problem(f"{key}.bounds", "must be from low to high", list(table.bounds))
        elif table.default is not None and not low <= table.default <= high:
            rule = f"must lie within the bounds [{low}, {high}]"
            yield Problem(f"{key}.default", rule, table.default)


def _check_members(draft: Draft) -> Iterator[Problem]:
    claimed: dict[str, str] = {}
    for name, group in draft.groups.items():
        key = f"groups.{name}.members"
        if name in draft.hyperparameters:
            yield Problem(f"groups.{name}", "has the name of a hyperparameter: rename it")
        for member in group.members:
            if not member.removeprefix("weights.") or not member.startswith("weights."):
                yield Problem(key, "must be weights of loss terms, named weights.TERM", member)
            if member in draft.families:
                rule = f"is also moved by hyperparameters.{member}.families: leave one of them out"
                yield Problem(key, rule, member)
            if member in claimed:
                yield Problem(key, f"is already a member of groups.{claimed[member]}", member)
            claimed[member] = name


def _check_constants(draft: Draft) -> Iterator[Problem]:
    """A schedule can only be said to beat the best constant if the search also tries constants."""
    for key, families in draft.searched:
        kind, _, name = key.partition(".")
        table = draft.hyperparameters.get(name)
        given = (
            table if kind == "hyperparameters" else draft.groups[name]
        ) or HyperparameterTable()
        # A misspelt one is a mistake of its own.
        if not any(did_you_mean(family, ["constant"]) for family in given.families):
            like = _initial_range(families) or _bounds_range(table) or "low = …, high = …"
            quoted = f'"{name}"' if "." in name else name
            yield Problem(
                f"{key}.families",
                "is searched, so it needs a `constant` family to be compared with",
                hint=f"add [{kind}.{quoted}.families.constant] with value = {{ {like} }}",
            )


def _initial_range(families: Families) -> str | None:
    for option in families.options.values():
        initial = option.of.get("initial")
        if isinstance(initial, Range):
            log = ", log = true" if initial.log else ""
            return f"low = {initial.low!r}, high = {initial.high!r}{log}"
    return None


def _bounds_range(table: HyperparameterTable | None) -> str | None:
    if table is None or table.bounds is None:
        return None
    low, high = table.bounds
    return f"low = {low!r}, high = {high!r}"


def _check_coupling(draft: Draft) -> Iterator[Problem]:
    members = [member for group in draft.groups.values() for member in group.members]
    known = [*draft.hyperparameters, *members]
    graph = {name: set(texts_of(families, "to")) for name, families in draft.families.items()}
    for name, peers in graph.items():
        for peer in sorted(peers - set(known)):
            yield Problem(
                f"hyperparameters.{name}.families",
                f"is coupled to `{peer}`, which the file does not have",
                hint=did_you_mean(peer, known) or f"add [hyperparameters.{peer}]",
            )
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = " -> ".join(error.args[1])
        yield Problem("hyperparameters", f"must not be coupled in a cycle: {cycle}")
