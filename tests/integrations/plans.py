"""The plan of the tests: one open-loop and one closed-loop schedule."""

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


def expected_values(metrics: list[float]) -> list[dict[str, float]]:
    """Return the values of each epoch, given the metrics of the epochs before."""
    replayed = scheduler()
    values = [replayed.values]
    for metric in metrics:
        replayed.step(metric)
        values.append(replayed.values)
    return values
