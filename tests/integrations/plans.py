"""The plan that the frameworks' trainings follow: one value by the epoch, one by the validation."""

from __future__ import annotations

from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Exponential, IncrementOnImprovement

HORIZON = 4
PLAN = Plan(
    {
        ("lr",): Exponential(initial=0.01, decay_rate=0.5),
        ("weights.l1",): IncrementOnImprovement(initial=0.2, increment=0.1),
    }
)


def scheduler() -> Scheduler:
    return Scheduler(PLAN, horizon=HORIZON)


def values_given(metrics: list[float]) -> list[dict[str, float]]:
    """Return the values in force in each epoch, given what the epochs before it gave."""
    replayed = scheduler()
    found = [replayed.values]
    for metric in metrics:
        replayed.step(metric)
        found.append(replayed.values)
    return found
