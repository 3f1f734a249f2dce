"""Lint warnings: a space that is valid but likely to waste trials or to mislead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from schedsearch.errors import InputError
from schedsearch.schedules import FAMILIES, GroupSchedule, from_table
from schedsearch.schedules.parameters import DURATIONS, parameters_of, to_epochs
from schedsearch.space.constant_coverage import constant_coverage_warnings
from schedsearch.space.domains import (
    Domain,
    Families,
    FamilyParameters,
    Fixed,
    Levels,
    ListDomain,
    Range,
)
from schedsearch.space.space import Space
from schedsearch.space.suggesters import RandomSuggester

#: Samples of each family that are checked against the rules between its parameters.
_SAMPLES = 200


def lint_warnings(space: Space) -> list[str]:
    """Return a line for each warning."""
    warnings: list[str] = []
    for name, families in space.families.items():
        group = space.document.groups.get(name)
        members = tuple(group.members) if group else None
        warnings.extend(_long_durations(families, name, space.horizon))
        for family, option in families.options.items():
            warnings.extend(_invalid_samples(family, option, name, members, space.horizon))
    warnings.extend(constant_coverage_warnings(space))
    return warnings


def _long_durations(families: Families, name: str, horizon: int) -> Iterator[str]:
    for family, option in families.options.items():
        for parameter in parameters_of(FAMILIES[family]):
            domain = option.domains.get(parameter.name, Fixed(parameter.default))
            items = domain.items if isinstance(domain, ListDomain) else (domain,)
            key = f"{name}.{family}.{parameter.name}"
            for item in items:
                if isinstance(item, Families):
                    yield from _long_durations(item, key, horizon)
            if parameter.type not in DURATIONS or parameter.name not in option.domains:
                continue
            longest = max((_longest(item, horizon) for item in items), default=0)
            if longest > horizon:
                yield (
                    f"{key} may be {longest} epochs, but the horizon is {horizon}: "
                    "the part of the schedule after the horizon is never used"
                )


def _longest(domain: Domain, horizon: int) -> int:
    match domain:
        case Fixed(value):
            return to_epochs(value, horizon)
        case Levels(values):
            return max(to_epochs(value, horizon) for value in values)
        case Range(high=high, percent=percent):
            return to_epochs(f"{high!r}%" if percent else int(high), horizon)
    return 0


def _invalid_samples(
    family: str, option: FamilyParameters, name: str, members: tuple[str, ...] | None, horizon: int
) -> Iterator[str]:
    """Warn if samples of a family break a rule between its parameters."""
    if option.is_fixed or (members and not issubclass(FAMILIES[family], GroupSchedule)):
        return
    errors = []
    for seed in range(_SAMPLES):
        parameters: Mapping[str, object] = option.suggest(RandomSuggester(seed), name)
        try:
            from_table({family: parameters}, members).resolve(horizon, seed)
        except InputError as error:
            errors.append(str(error))
    if errors:
        yield (
            f"{name}.{family}: {len(errors)} of {_SAMPLES} random samples are invalid, and such "
            f"trials are wasted: narrow the ranges ({errors[0]})"
        )
