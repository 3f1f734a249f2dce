"""Warnings of settings that have no effect: an endpoint, and phases beyond the horizon."""

from __future__ import annotations

from collections.abc import Iterator

from schedsearch.schedules import FAMILIES, Interval
from schedsearch.schedules.parameters import DURATIONS, parameters_of
from schedsearch.space.domains import (
    Domain,
    Families,
    FamilyParameters,
    Fixed,
    Levels,
    ListDomain,
    Range,
)
from schedsearch.space.durations import duration_settings
from schedsearch.space.space import Space

#: Families whose phases are those of one of several cycles.
_REPEATING = ("triangular",)


def unused_setting_warnings(space: Space) -> Iterator[str]:
    """Yield a line for each setting that has no effect, or an unexpected one."""
    for name, families in space.families.items():
        for key, family, option in _options(families, name):
            yield from _endpoint_warnings(family, option, key, space.interval(name))
        yield from _phase_warnings(space, name, families)


def _options(families: Families, key: str) -> Iterator[tuple[str, str, FamilyParameters]]:
    """Yield each family with its key and parameters, also those within combinators."""
    for family, option in families.options.items():
        yield f"{key}.{family}", family, option
        for name, domain in option.domains.items():
            yield from _inner_options(domain, f"{key}.{family}.{name}")


def _inner_options(domain: Domain, key: str) -> Iterator[tuple[str, str, FamilyParameters]]:
    if isinstance(domain, Families):
        yield from _options(domain, key)
    elif isinstance(domain, ListDomain):
        for i, item in enumerate(domain.items):
            yield from _inner_options(item, f"{key}.{i}")


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


def _phase_warnings(space: Space, name: str, families: Families) -> Iterator[str]:
    """Warn of phases that are always longer than the horizon, though none of them is alone."""
    settings = {
        setting.key: setting
        for setting in duration_settings(
            families, space.horizon, space.interval(name), space.schedule_version
        )
    }
    for key, family, _ in _options(families, ""):
        phases = FAMILIES[family].phases
        found = [settings.get(f"{key}.{phase}".removeprefix(".")) for phase in phases]
        spans = [setting.epochs for setting in found if setting is not None]
        if not spans or len(spans) < len(phases) or family in _REPEATING:
            continue
        horizon = next(setting.horizon for setting in found if setting is not None)
        total, available = sum(span.low for span in spans), horizon.high
        if total > available >= max(span.high for span in spans):
            yield (
                f"{name}{key}: {', '.join(phases)} come to at least {total:.4g} epochs, but the "
                f"horizon is {available:.4g}: the part of the schedule after it is never used"
            )
