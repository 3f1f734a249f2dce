"""Lint warnings: a space that is valid but likely to waste trials or to mislead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from schedsearch.errors import InputError
from schedsearch.schedules import FAMILIES, GroupSchedule, Interval, from_table
from schedsearch.space.beyond_bounds import beyond_bounds_warnings
from schedsearch.space.constant_coverage import constant_coverage_warnings
from schedsearch.space.domains import FamilyParameters, Range
from schedsearch.space.durations import DurationSetting, duration_settings
from schedsearch.space.idle_pruner import idle_pruner_warnings
from schedsearch.space.negative_values import negative_value_warnings
from schedsearch.space.space import Space
from schedsearch.space.suggesters import RandomSuggester
from schedsearch.space.unchanging import unchanging_warnings
from schedsearch.space.unused_settings import unused_setting_warnings

#: Samples of each family that are checked against the rules between its parameters.
_SAMPLES = 200
#: Parameters that are the times at which something begins.
_MOMENTS = (".begin", ".milestones")


def lint_warnings(space: Space) -> list[str]:
    """Return a line for each warning."""
    warnings: list[str] = []
    for name, families in space.families.items():
        group = space.document.groups.get(name)
        members = tuple(group.members) if group else None
        interval = space.interval(name)
        settings = list(
            duration_settings(families, space.horizon, interval, space.schedule_version)
        )
        warnings.extend(_long_durations(settings, name, space.horizon))
        warnings.extend(_single_durations(settings, name, interval, is_group=bool(group)))
        for family, option in families.options.items():
            warnings.extend(_invalid_samples(family, option, name, members, space))
    warnings.extend(unused_setting_warnings(space))
    warnings.extend(negative_value_warnings(space))
    warnings.extend(beyond_bounds_warnings(space))
    warnings.extend(unchanging_warnings(space))
    warnings.extend(constant_coverage_warnings(space))
    warnings.extend(idle_pruner_warnings(space))
    return warnings


def _long_durations(settings: Sequence[DurationSetting], name: str, horizon: int) -> Iterator[str]:
    for setting in settings:
        longest = setting.epochs.high
        is_moment = setting.key.rstrip(".0123456789").endswith(_MOMENTS)
        is_reached = longest <= setting.horizon.high
        if is_moment and setting.domain.is_fixed:
            is_reached = longest < setting.horizon.high
        if not setting.is_given or is_reached:
            continue
        available = f"the horizon is {horizon}"
        if setting.horizon.high < horizon:
            available = f"only {setting.horizon} of the horizon are left for it"
        unused = "the part of the schedule after the horizon is never used"
        if is_moment:
            unused = "it is not reached within the training"
        elif setting.is_count:
            unused = "it never ends within the training"
        yield f"{name}.{setting.key} may be {longest:.12g} epochs, but {available}: {unused}"


def _single_durations(
    settings: Sequence[DurationSetting], name: str, interval: Interval, *, is_group: bool
) -> Iterator[str]:
    """Warn where rounding to whole epochs leaves one value of a range."""
    for setting in settings:
        is_whole = interval == "epoch" or setting.is_count
        if setting.domain.is_fixed or not is_whole or setting.epochs.low < setting.epochs.high:
            continue
        change = "give it one value, or set a longer horizon"
        if not (is_group or setting.is_count):
            change = 'set interval = "step", or a longer horizon'
        values = f"{setting.domain}"
        if isinstance(setting.domain, Range):
            values = f"from {setting.domain.low:.12g}% to {setting.domain.high:.12g}%"
        yield (
            f"{name}.{setting.key} {values} of {setting.horizon} is always {setting.epochs}: "
            f"{change}"
        )


def _invalid_samples(
    family: str, option: FamilyParameters, name: str, members: tuple[str, ...] | None, space: Space
) -> Iterator[str]:
    """Warn if samples of a family break a rule between its parameters."""
    if option.is_fixed or (members and not issubclass(FAMILIES[family], GroupSchedule)):
        return
    errors = []
    for seed in range(_SAMPLES):
        parameters: Mapping[str, object] = option.suggest(RandomSuggester(seed), name)
        try:
            schedule = from_table({family: parameters}, members, space.schedule_version)
            schedule.resolve(space.horizon, seed, space.interval(name))
        except InputError as error:
            errors.append(str(error))
    if errors:
        yield (
            f"{name}.{family}: {len(errors)} of {_SAMPLES} random samples are invalid, and such "
            f"trials are wasted: narrow the ranges ({errors[0]})"
        )
