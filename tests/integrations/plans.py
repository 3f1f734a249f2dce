"""The plan of the tests: one open-loop and one closed-loop schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schedsearch.engines import make_engine
from schedsearch.epoch_values import EpochValues
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Cosine, Exponential, IncrementOnImprovement, Linear, Warmup

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


#: A plan whose learning rate and label smoothing change at each optimizer step.
PLAN_BY_STEP = Plan(
    {
        ("lr",): Warmup(Cosine(initial=0.01, final=0.0), duration="30%", factor=0.0),
        ("label_smoothing",): Linear(initial=0.0, final=0.4),
        ("weights.l1",): IncrementOnImprovement(initial=0.2, increment=0.1),
    },
    intervals={"lr": "step", "label_smoothing": "step"},
)


def values_by_step(name: str, steps: int, plan: Plan = PLAN_BY_STEP) -> list[float]:
    """Return the values of a hyperparameter without feedback, at each step of a training."""
    replayed, values = Scheduler(plan, horizon=HORIZON), []
    for _ in range(HORIZON):
        values += [replayed.at(step / steps)[name] for step in range(steps)]
        replayed.step(1.0)
    return values


def _epoch_values(plan: Plan) -> list[EpochValues]:
    """Return the values of each epoch as an engine gets them, without feedback."""
    replayed, epochs = Scheduler(plan, horizon=HORIZON), []
    for _ in range(HORIZON):
        epochs.append(replayed.epoch_values)
        replayed.step(1.0)
    return epochs


def train_by_step(train: Callable[[Any], None], plan: Plan = PLAN_BY_STEP) -> None:
    """Train a loop in all epochs of a plan, as a search does, without feedback."""
    loop: Any = train
    loop.hyperparameters = dict.fromkeys(plan.names, 0.0)
    engine = make_engine(loop, horizon=HORIZON)
    engine.fill(0, seed=1)
    for values in _epoch_values(plan):
        [result] = engine.train_epoch([values])
        assert not isinstance(result, Exception), result
    engine.release(0)
