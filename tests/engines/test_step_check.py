"""What a training loop must ask for where values change within the epoch."""

from __future__ import annotations

import re

import pytest

from schedsearch.engines import EpochResult
from schedsearch.engines.loop import LoopEngine
from schedsearch.errors import TrainingRefusedError
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Linear


def ask(steps):
    """Return a loop that asks for the values of these (step, of) in each epoch."""

    def train(run):
        for epoch, _ in run:
            for step, of in steps(epoch):
                run.at(step, of=of)
            run.report(val_loss=1.0)

    train.hyperparameters = {"lr": 0.0}
    return train


def outcome(train, epochs=2, interval="step"):
    """Train epochs of a linear plan, and return the result or the error of the last one."""
    schedule = Linear(initial=1.0, final=0.0, duration=3)
    scheduler = Scheduler(Plan({("lr",): schedule}, intervals={"lr": interval}), horizon=3)
    engine = LoopEngine(train, horizon=3)
    engine.fill(0, seed=0)
    for _ in range(epochs):
        [result] = engine.train_epoch([scheduler.epoch_values])
        scheduler.step(1.0)
    engine.release(0)
    return result


@pytest.mark.parametrize(
    ("steps", "epochs", "message"),
    [
        (lambda epoch: [], 1, r"lr: the interval is \"step\", but the loop did not call run\.at"),
        (
            lambda epoch: [(4 * epoch + k, 12) for k in range(4)],
            1,
            r"at\(3, of=12\) is the last step at epoch = 0",
        ),
        (
            lambda epoch: [(4 * epoch + k, 7) for k in range(4 - epoch)],
            2,
            r"at\(4, of=7\) is the first step at epoch = 1",
        ),
        (lambda epoch: [(4 * epoch + k, 4) for k in range(4)], 2, r"at\(4, of=4\).*from 0 to 3"),
        (lambda epoch: [(k, 12) for k in range(4)], 1, r"not that of the training"),
        (
            lambda epoch: [(k, 5) for k in range(1, 5)],
            1,
            r"at\(1, of=5\) is the first step at epoch = 0",
        ),
    ],
)
def test_a_loop_that_does_not_ask_for_the_steps_of_the_epoch_is_refused(steps, epochs, message):
    error = outcome(ask(steps), epochs)
    assert isinstance(error, TrainingRefusedError)
    assert re.search(message, str(error))
    # Where nothing moves within the epoch, the steps do not matter.
    assert isinstance(outcome(ask(lambda epoch: steps(0)), interval="epoch"), EpochResult)


@pytest.mark.parametrize(
    "steps",
    [
        lambda epoch: [(k, 4) for k in range(4)],
        lambda epoch: [(k, 4) for k in range(3)],  # a smaller last batch is dropped
        lambda epoch: [(k, 9) for k in range(0, 9, 3)],
        lambda epoch: [(0, 1)],
        lambda epoch: [(3, 4), *((k, 4) for k in range(4)), (0, 4)],  # two of them are for a log
    ],
)
def test_a_loop_that_asks_for_most_steps_of_each_epoch_is_trained(steps):
    assert isinstance(outcome(ask(steps), 3), EpochResult)


def test_a_state_within_an_epoch_continues_at_a_later_step():
    states = []

    def train(run):
        if states:
            run.load_state_dict(states[0])
        for _ in run:
            for step in range(3 if run.seed else 0, 4):
                run.at(step, of=4)
            states.append(run.state_dict())
            run.report(val_loss=1.0)

    train.hyperparameters = {"lr": 0.0}
    assert isinstance(outcome(train, 1), EpochResult)
    engine = LoopEngine(train, horizon=3)
    engine.fill(0, seed=1)
    values = Scheduler(
        Plan({("lr",): Linear(initial=1.0, final=0.0, duration=3)}, intervals={"lr": "step"}),
        horizon=3,
    ).epoch_values
    assert isinstance(engine.train_epoch([values])[0], EpochResult)
    assert isinstance(engine.train_epoch([values])[0], TrainingRefusedError)
    engine.release(0)
