"""Replay a schedule against given feedback."""

from collections.abc import Iterable, Mapping
from typing import Any

from schedsearch.schedules import Feedback, Schedule, State


def replay(schedule: Schedule, feedbacks: Iterable[Feedback]) -> list[Any]:
    """Return the values before the first feedback and after each one."""
    state: State = schedule.start()
    values = [schedule.evaluate(state, {})]
    for feedback in feedbacks:
        state = schedule.update(state, feedback)
        values.append(schedule.evaluate(state, {}))
    return values


def on_metrics(schedule: Schedule, *metrics: float) -> list[Any]:
    return replay(schedule, map(Feedback, metrics))


def on_terms(schedule: Schedule, *terms: Mapping[str, float]) -> list[Any]:
    return replay(schedule, (Feedback(metric=0.0, terms=given) for given in terms))
