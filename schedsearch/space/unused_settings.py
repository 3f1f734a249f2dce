"""Warnings of settings that have no effect: an endpoint, and phases beyond the horizon."""

from __future__ import annotations

from collections.abc import Iterator

from schedsearch.schedules import FAMILIES, Interval
from schedsearch.schedules.parameters import DURATIONS, parameters_of
from schedsearch.space.cut_phases import cut_phase_warnings
from schedsearch.space.domains import Domain, FamilyParameters, Fixed, Levels, Range
from schedsearch.space.families_within import families_within
from schedsearch.space.space import Space


def unused_setting_warnings(space: Space) -> Iterator[str]:
    """Yield a line for each setting that has no effect, or an unexpected one."""
    for name, families in space.families.items():
        for key, family, option in families_within(families, name):
            yield from _endpoint_warnings(family, option, key, space.interval(name))
    yield from cut_phase_warnings(space)


def _endpoint_warnings(
    family: str, option: FamilyParameters, key: str, interval: Interval
) -> Iterator[str]:
    """Warn of an endpoint that changes nothing, or more than the last step."""
    endpoint = option.domains.get("endpoint", Fixed(False))
    if endpoint != Fixed(True) and not isinstance(endpoint, Levels):
        return
    known = [p for p in parameters_of(FAMILIES[family]) if p.type in DURATIONS]
    domains = {p.name: option.domains.get(p.name, Fixed(p.default)) for p in known}
    if not any(map(_follows_horizon, domains.values())):
        names = " and ".join(f"`{name}`" for name in domains)
        yield (
            f"{key}.endpoint has no effect, since {names} {'are' if len(domains) > 1 else 'is'} "
            "given in epochs: leave it out, or give a share of the horizon"
        )
    elif interval == "step":
        yield (
            f'{key}.endpoint: with interval = "step" the whole last epoch has the last value: '
            "without `endpoint`, the last step comes close to it"
        )


def _follows_horizon(domain: Domain) -> bool:
    """Return whether a duration may be a share, or the rest of the horizon."""
    match domain:
        case Fixed(value):
            return isinstance(value, str)
        case Levels(values):
            return any(_follows_horizon(Fixed(value)) for value in values)
        case Range(percent=percent):
            return percent
    return False
