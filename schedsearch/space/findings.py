"""What is legal in a space, and yet worth knowing before a search begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from schedsearch.errors import InputError
from schedsearch.schedules import FAMILIES, GroupSchedule, from_table
from schedsearch.schedules.parameters import ParameterType, parameters_of, to_epochs
from schedsearch.space.choosers import RandomChooser
from schedsearch.space.constants import coarse_constants
from schedsearch.space.space import Space
from schedsearch.space.templates import (
    Families,
    Fixed,
    Levels,
    Parameters,
    Range,
    Several,
    Template,
)

#: How often each family is drawn to see whether its parameters keep the rules between them.
_DRAWS = 200


def findings(space: Space) -> list[str]:
    """Return a line for each thing worth knowing; none is a mistake."""
    found: list[str] = []
    for name, families in space.families.items():
        group = space.document.groups.get(name)
        members = tuple(group.members) if group else None
        found.extend(_beyond_horizon(families, name, space.horizon))
        for family, option in families.options.items():
            found.extend(_refused(family, option, name, members, space.horizon))
    found.extend(coarse_constants(space))
    return found


def _beyond_horizon(families: Families, name: str, horizon: int) -> Iterator[str]:
    for family, option in families.options.items():
        for parameter in parameters_of(FAMILIES[family]):
            template = option.of.get(parameter.name, Fixed(parameter.default))
            items = template.items if isinstance(template, Several) else (template,)
            key = f"{name}.{family}.{parameter.name}"
            for item in items:
                if isinstance(item, Families):
                    yield from _beyond_horizon(item, key, horizon)
            if parameter.type is not ParameterType.DURATION or parameter.name not in option.of:
                continue
            longest = max((_longest(item, horizon) for item in items), default=0)
            if longest > horizon:
                yield (
                    f"{key} may be {longest} epochs, but the horizon is {horizon}: "
                    "what it lasts for is then cut off, or never comes"
                )


def _longest(template: Template, horizon: int) -> int:
    match template:
        case Fixed(value):
            return to_epochs(value, horizon)
        case Levels(values):
            return max(to_epochs(value, horizon) for value in values)
        case Range(high=high, percent=percent):
            return to_epochs(f"{high!r}%" if percent else int(high), horizon)
    return 0


def _refused(
    family: str, option: Parameters, name: str, members: tuple[str, ...] | None, horizon: int
) -> Iterator[str]:
    """Say how many draws of a family break a rule between its parameters."""
    if option.is_fixed or (members and not issubclass(FAMILIES[family], GroupSchedule)):
        return
    refusals = []
    for seed in range(_DRAWS):
        drawn: Mapping[str, object] = option.draw(RandomChooser(seed), name)
        try:
            from_table({family: drawn}, members).resolve(horizon, seed)
        except InputError as error:
            refusals.append(str(error))
    if refusals:
        yield (
            f"{name}.{family}: {len(refusals)} of {_DRAWS} draws are refused, and such trials are "
            f"lost: narrow the ranges ({refusals[0]})"
        )
