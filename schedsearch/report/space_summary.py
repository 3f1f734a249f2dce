"""A summary of a space as text and as JSON: families, parameters, ranges and sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from schedsearch.printable import count_of
from schedsearch.race.planned import planned_constants, planned_races, trials_for_constants
from schedsearch.space import Space
from schedsearch.space.constant_coverage import enough_constants
from schedsearch.space.document import HyperparameterTable
from schedsearch.space.domains import Domain, Families, FamilyParameters, ListDomain
from schedsearch.space.durations import Span, duration_settings
from schedsearch.space.prefix_sharing import PrefixSharing, estimate_prefix_sharing

#: Larger sizes are shown as "more than": no search tries so many.
_LARGEST_SIZE = 10**15
#: At most so many trials are sampled to estimate how many epochs they share.
_SAMPLED_TRIALS = 200


def space_lines(space: Space) -> Iterator[str]:
    """Yield the families, parameters, ranges and sizes of a space, line by line."""
    objective, search = space.objective, space.search
    yield f"name       {space.name}"
    yield f"task       {space.task}"
    yield f"horizon    {space.horizon} epochs"
    yield f"objective  {objective.metric}, {objective.direction}, {objective.value} epoch's value"
    if not space.is_config:
        seeds = "1 seed" if search.seeds == 1 else f"{search.seeds} seeds"
        yield (
            f"search     {search.trials} trials of {seeds}, sampler {search.sampler.name}, "
            f"pruner {search.pruner.name}{_race_words(space)}"
        )
    yield ""
    for name, table in space.document.hyperparameters.items():
        families = space.hyperparameters.get(name)
        size = "not searched" if families is None else _size_words(families.size())
        yield f"{name}  ({', '.join([size, *_limits(table)])})"
        yield from _family_lines(space, name)
    for name, group in space.document.groups.items():
        size = _size_words(space.groups[name].size())
        yield f"{name}: {', '.join(group.members)}  ({size})"
        yield from _family_lines(space, name)
    defaults = space.default_arguments
    for name, domain in space.arguments.items():
        default = f"default {defaults[name]}" if name in defaults else "default: the task's"
        size = "not searched" if domain.is_fixed else _size_words(domain.size())
        yield f"arguments.{name}  ({size}, {default})"
        yield f"  {domain}"
    yield ""
    if space.is_config:
        yield "a config: it has one plan"
        return
    if space.size() == math.inf:
        yield "size       infinite: some ranges are continuous"
    else:
        yield f"size       {_size_words(space.size())}"
    yield f"reuse      {_reuse_words(_sharing(space))}"
    yield from _baseline_lines(space)


def _race_words(space: Space) -> str:
    if space.search.race is None or not space.search.race.top:
        return ""
    if (races := planned_races(space, space.search.trials)) is None:
        return ", no race: too few trials"
    return f", a race of the best {races[0].top}"


def _baseline_lines(space: Space) -> Iterator[str]:
    """Yield how many constants will be tried, if `confirm` will call them too few."""
    enough, tried = enough_constants(space), planned_constants(space, space.search.trials)
    if tried >= enough or (trials := trials_for_constants(space, enough)) is None:
        return
    yield (
        f"baseline   about {count_of(tried, 'constant')}: for fewer than {enough}, ten for each "
        f"searched hyperparameter, `confirm` names the baseline weak; {trials} trials try so many"
    )


def _sharing(space: Space) -> PrefixSharing:
    return estimate_prefix_sharing(space, min(space.search.trials, _SAMPLED_TRIALS), seed=0)


def _reuse_words(sharing: PrefixSharing) -> str:
    """Return how much of a search several trials can share."""
    if sharing.reuse >= 0.005:
        return f"about {100 * sharing.reuse:.0f} % of the epochs can be reused from other trials"
    if not sharing.never_shared:
        return "less than 0.5 % of the epochs can be reused from other trials"
    names = " and ".join(sharing.never_shared)
    verb = "differ" if len(sharing.never_shared) > 1 else "differs"
    return (
        f"none: {names} {verb} in every trial from the first epoch on; levels or a step allow reuse"
    )


def space_json(space: Space) -> dict[str, Any]:
    """Return the tables of the space with their sizes, None beyond 10^15, and their durations.

    `phases` has the shortest and the longest duration in epochs, by family and parameter.
    """
    content = space.to_document()
    for kind, searched in (("hyperparameters", space.hyperparameters), ("groups", space.groups)):
        for name, families in searched.items():
            content[kind][name]["size"] = _size_json(families.size())
            content[kind][name]["phases"] = {
                family: {key: [span.low, span.high] for key, span in spans.items()}
                for family, spans in _phases(space, name).items()
                if spans
            }
    for name, domain in space.arguments.items():
        content["arguments"][name] = {
            **content["arguments"][name],
            "size": _size_json(domain.size()),
        }
    reuse = 0.0 if space.is_config else _sharing(space).reuse
    found = {"size": _size_json(space.size()), "config": space.is_config, "reuse": round(reuse, 4)}
    return content | found


def _size_json(size: float) -> int | None:
    return int(size) if size < _LARGEST_SIZE else None


def _size_words(size: float) -> str:
    if size == math.inf:
        return "continuous"
    if size >= _LARGEST_SIZE:
        return f"more than {_LARGEST_SIZE:,} choices"
    return f"{int(size):,} choice{'' if size == 1 else 's'}"


def _limits(table: HyperparameterTable) -> Iterator[str]:
    yield "default: the task's" if table.default is None else f"default {table.default:.12g}"
    if table.bounds is not None:
        yield "bounds {:.12g} to {:.12g}".format(*table.bounds)
    if table.interval == "step":
        yield "changes at each optimizer step"
    if table.round:
        yield "rounded to whole numbers"


def _family_lines(space: Space, name: str) -> Iterator[str]:
    """Yield the families with their parameters, and what the durations of each come to."""
    families = space.families.get(name)
    phases = _phases(space, name)
    rows = [
        (family, list(_parameter_rows(option, "")))
        for family, option in (families.options.items() if families else ())
    ]
    width = max((len(name) for _, parameters in rows for name, _ in parameters), default=0)
    for family, parameters in rows:
        yield f"  {family}"
        for name, text in parameters:
            yield f"    {name:{width}}  {text}"
        if phases[family]:
            spans = (f"{key} {span}" for key, span in phases[family].items())
            yield f"    {'phases':{width}}  {'; '.join(spans)}"


def _phases(space: Space, name: str) -> dict[str, dict[str, Span]]:
    """Return what the durations come to in epochs, by family and parameter."""
    families = space.families.get(name, Families({}))
    phases: dict[str, dict[str, Span]] = {family: {} for family in families.options}
    for setting in duration_settings(
        families, space.horizon, space.interval(name), space.schedule_version
    ):
        if setting.is_count and not setting.is_given:
            continue
        family, _, key = setting.key.partition(".")
        phases[family][key] = setting.epochs
    return phases


def _parameter_rows(domain: Domain, name: str) -> Iterator[tuple[str, str]]:
    """Yield each parameter's dotted name, with its range or value."""
    match domain:
        case Families(options):
            for family, option in options.items():
                yield from _parameter_rows(option, f"{name}.{family}")
        case FamilyParameters(of):
            for key, item in of.items():
                yield from _parameter_rows(item, f"{name}.{key}" if name else key)
        case ListDomain(items) if _holds_families(items):
            for i, item in enumerate(items):
                yield from _parameter_rows(item, f"{name}.{i}")
        case _:
            yield name, str(domain)


def _holds_families(items: Sequence[Domain]) -> bool:
    return any(isinstance(item, Families) for item in items)
