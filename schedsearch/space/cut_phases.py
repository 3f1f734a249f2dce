"""Phases of one schedule that are longer than the horizon together, so that the last are cut."""

from __future__ import annotations

from collections.abc import Iterator

from schedsearch.schedules import FAMILIES
from schedsearch.schedules.cut_phases import describe_beginning, describe_cut, exceeds
from schedsearch.schedules.durations import has_passed
from schedsearch.space.durations import PhaseLengths, beginnings, phase_lengths
from schedsearch.space.space import Space


def cut_phase_warnings(space: Space) -> Iterator[str]:
    """Yield a line for each schedule of which a part may lie after the horizon."""
    for name, families in space.families.items():
        interval = space.interval(name)
        for phases in phase_lengths(families, space.horizon, interval):
            if not FAMILIES[phases.family].repeats:
                yield from _phase_warnings(f"{name}.{phases.key}", phases)
        for begin in beginnings(families, space.horizon, interval, space.schedule_version):
            if not has_passed(begin.horizon.low, begin.time.high):
                continue
            never = has_passed(begin.horizon.high, begin.time.low)
            verb, takes = ("never begins", "takes") if never else ("may never begin", "may take")
            time = begin.time.low if never else begin.time.high
            reason = describe_beginning(takes, time, begin.horizon.high)
            yield f"{name}.{begin.key} {verb}: {reason}"


def _phase_warnings(key: str, phases: PhaseLengths) -> Iterator[str]:
    names = FAMILIES[phases.family].phases
    pairs = list(zip(phases.lengths, phases.horizons, strict=True))
    beyond = [pair for pair in pairs if exceeds(sum(pair[0]), pair[1])]
    if not beyond:
        return
    always = len(beyond) == len(pairs)
    pick = min if always else max
    lengths, horizon = pick(beyond, key=lambda pair: sum(pair[0]) - pair[1])
    at_least = "come to at least" if len(set(phases.lengths)) > 1 else "come to"
    size, condition = (at_least, "") if always else ("may come to", "then ")
    yield f"{key}: {describe_cut(names, lengths, horizon, size, condition)}"
