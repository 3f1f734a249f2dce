"""Phases of a schedule that are longer than the horizon together, so that the last are cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from schedsearch.schedules.base import Schedule
from schedsearch.schedules.durations import REST, Interval, has_passed
from schedsearch.schedules.parameters import ParameterType, parameters_of


def cut_phase_lines(
    name: str, schedule: Schedule, resolved: Schedule, horizon: float, interval: Interval
) -> Iterator[str]:
    """Yield a line for each part of a schedule that lies after the horizon.

    Args:
        name: of the hyperparameter.
        schedule: as it was given.
        resolved: the same, with durations in epochs.
        horizon: in epochs.
        interval: when the value changes.

    >>> from schedsearch.schedules import OneCycle
    >>> given = OneCycle(0.0, 1.0, 0.0, rise="60%", fall="60%")
    >>> list(cut_phase_lines("lr", given, given.resolve(10, seed=0), 10, "epoch"))
    ['lr.one_cycle: rise, fall come to 12 epochs, but the horizon is 10: `fall` is cut at the \
horizon; shorten them, or give one of them "rest"']
    """
    key, lengths = f"{name}.{schedule.family}", schedule.phase_lengths(horizon)
    if not schedule.repeats and exceeds(sum(lengths), horizon):
        yield f"{key}: {describe_cut(schedule.phases, lengths, horizon)}"
    inner, own = _inner(schedule), [item for _, item in _inner(resolved)]
    times: Any = getattr(resolved, schedule.beginnings) if schedule.beginnings else ()
    later = times if isinstance(times, tuple) else (times,)
    begins = [*[0] * (len(inner) - len(later)), *later]
    stops = [*begins[1:], horizon] if later else [horizon] * len(inner)
    for (place, item), resolved_item, begin, stop in zip(inner, own, begins, stops, strict=True):
        if begin > 0 and has_passed(horizon, begin):
            yield f"{key}.{place} never begins: {describe_beginning('takes', begin, horizon)}"
        else:
            rest = max(1 if interval == "epoch" else 0, stop - begin)
            yield from cut_phase_lines(f"{key}.{place}", item, resolved_item, rest, interval)


def _inner(schedule: Schedule) -> list[tuple[str, Schedule]]:
    """Return the schedules within a schedule, each with its key."""
    found: list[tuple[str, Schedule]] = []
    for parameter in parameters_of(type(schedule)):
        if parameter.type is ParameterType.SCHEDULE:
            value: Any = getattr(schedule, parameter.name)
            if parameter.is_list:
                found += [(f"{parameter.name}.{i}", item) for i, item in enumerate(value)]
            else:
                found.append((parameter.name, value))
    return found


def exceeds(total: float, horizon: float) -> bool:
    """Return whether a number of epochs is more than a horizon, apart from rounding."""
    return total > horizon and not has_passed(total, horizon)


def describe_cut(
    names: Sequence[str],
    lengths: Sequence[float],
    horizon: float,
    size: str = "come to",
    condition: str = "",
) -> str:
    """Return which phases the horizon cuts, and which never begin.

    Args:
        names: of the phases.
        lengths: of the phases in epochs, together more than the horizon.
        horizon: in epochs.
        size: how the phases relate to their sum.
        condition: of what follows.
    """
    ends = list(accumulate(lengths))
    never = [n for n, end, own in zip(names, ends, lengths, strict=True) if end - own >= horizon]
    cut = [n for n, end in zip(names, ends, strict=True) if end > horizon and n not in never]
    parts = [
        *(f"`{n}` is cut at the horizon" for n in cut),
        *(f"`{n}` never begins" for n in never),
    ]
    return (
        f"{', '.join(names)} {size} {ends[-1]:.4g} epochs, but the horizon is {horizon:.4g}: "
        f'{condition}{" and ".join(parts)}; shorten them, or give one of them "{REST}"'
    )


def describe_beginning(takes: str, time: float, horizon: float) -> str:
    """Return why a schedule that follows others never begins."""
    return f"what precedes it {takes} {time:.4g} epochs, and the horizon is {horizon:.4g}"
