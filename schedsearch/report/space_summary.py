"""A space in words, and as JSON: what will be searched."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from schedsearch.space import Space
from schedsearch.space.document import HyperparameterTable
from schedsearch.space.domains import Domain, Families, FamilyParameters, ListDomain
from schedsearch.space.prefix_sharing import PrefixSharing, estimate_prefix_sharing

#: Larger sizes are not told apart: no search tries so many.
_COUNTABLE = 10**15
#: Of a longer search, so many trials are drawn to see what they have in common.
_DRAWN = 200


def space_lines(space: Space) -> Iterator[str]:
    """Yield what a space searches, line by line: families, parameters, ranges, and sizes."""
    objective, search = space.objective, space.search
    yield f"name       {space.name}"
    yield f"task       {space.task}"
    yield f"horizon    {space.horizon} epochs"
    yield f"objective  {objective.metric}, {objective.direction}, {objective.value} epoch's value"
    if not space.is_config:
        seeds = "1 seed" if search.seeds == 1 else f"{search.seeds} seeds"
        yield (
            f"search     {search.trials} trials of {seeds}, sampler {search.sampler.name}, "
            f"pruner {search.pruner.name}"
        )
    yield ""
    for name, table in space.document.hyperparameters.items():
        families = space.hyperparameters.get(name)
        size = "not searched" if families is None else _size_words(families.size())
        yield f"{name}  ({', '.join([size, *_limits(table)])})"
        yield from _family_lines(families)
    for name, group in space.document.groups.items():
        families = space.groups[name]
        yield f"{name}: {', '.join(group.members)}  ({_size_words(families.size())})"
        yield from _family_lines(families)
    yield ""
    if space.is_config:
        yield "a config: one plan"
        return
    if space.size() == math.inf:
        yield "size       no end of plans: some ranges are continuous"
    else:
        yield f"size       {_size_words(space.size())}"
    yield f"reuse      {_reuse_words(_sharing(space))}"


def _sharing(space: Space) -> PrefixSharing:
    return estimate_prefix_sharing(space, min(space.search.trials, _DRAWN), seed=0)


def _reuse_words(sharing: PrefixSharing) -> str:
    """Say how much of a search is trained once for several trials."""
    if sharing.reuse >= 0.005:
        return f"about {100 * sharing.reuse:.0f} % of the epochs are known from other trials"
    if not sharing.never_shared:
        return "no epochs to speak of are known from other trials"
    names = " and ".join(sharing.never_shared)
    verb = "differ" if len(sharing.never_shared) > 1 else "differs"
    return (
        f"none: {names} {verb} in every trial from the first epoch on (levels or a step would not)"
    )


def space_json(space: Space) -> dict[str, Any]:
    """Return the same for a program: the file's tables with sizes, None where past counting."""
    content = space.to_document()
    for kind, searched in (("hyperparameters", space.hyperparameters), ("groups", space.groups)):
        for name, families in searched.items():
            content[kind][name]["size"] = _size_json(families.size())
    reuse = 0.0 if space.is_config else _sharing(space).reuse
    found = {"size": _size_json(space.size()), "config": space.is_config, "reuse": round(reuse, 4)}
    return content | found


def _size_json(size: float) -> int | None:
    return int(size) if size < _COUNTABLE else None


def _size_words(size: float) -> str:
    if size == math.inf:
        return "continuous"
    if size >= _COUNTABLE:
        return f"more than {_COUNTABLE:,} choices"
    return f"{int(size):,} choice{'' if size == 1 else 's'}"


def _limits(table: HyperparameterTable) -> Iterator[str]:
    yield "default: the task's" if table.default is None else f"default {table.default:.12g}"
    if table.bounds is not None:
        yield "bounds {:.12g} to {:.12g}".format(*table.bounds)


def _family_lines(families: Families | None) -> Iterator[str]:
    rows = [
        (family, list(_leaves(option, "")))
        for family, option in (families.options.items() if families else ())
    ]
    width = max((len(name) for _, leaves in rows for name, _ in leaves), default=0)
    for family, leaves in rows:
        yield f"  {family}"
        for name, text in leaves:
            yield f"    {name:{width}}  {text}"


def _leaves(domain: Domain, name: str) -> Iterator[tuple[str, str]]:
    """Yield each parameter's dotted name, with what it may be."""
    match domain:
        case Families(options):
            for family, option in options.items():
                yield from _leaves(option, f"{name}.{family}")
        case FamilyParameters(of):
            for key, item in of.items():
                yield from _leaves(item, f"{name}.{key}" if name else key)
        case ListDomain(items) if _holds_families(items):
            for i, item in enumerate(items):
                yield from _leaves(item, f"{name}.{i}")
        case _:
            yield name, str(domain)


def _holds_families(items: Sequence[Domain]) -> bool:
    return any(isinstance(item, Families) for item in items)
