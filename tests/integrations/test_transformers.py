"""A training by transformers' Trainer follows a plan, resumes within it, and ends when pruned."""

from __future__ import annotations

import pytest
from transformers import TrainerCallback

from examples.with_transformers import splits, trainer
from examples.with_transformers import train as train_a_run
from schedsearch.engines import make_engine
from schedsearch.errors import InputError
from schedsearch.integrations.transformers import ScheduleCallback
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Exponential, IncrementOnImprovement

HORIZON = 4
PLAN = Plan(
    {
        ("lr",): Exponential(initial=0.01, decay_rate=0.5),
        ("label_smoothing",): IncrementOnImprovement(initial=0.2, increment=0.1),
    }
)


def scheduler():
    return Scheduler(PLAN, horizon=HORIZON)


class Watch(TrainerCallback):
    """Writes down what was in force at the end of each epoch, and what it gave."""

    def __init__(self, smoothing):
        self.smoothing, self.values, self.losses = smoothing, [], []

    def on_epoch_end(self, args, state, control, optimizer, **given):
        lr = optimizer.param_groups[0]["lr"]
        self.values.append({"lr": lr, "label_smoothing": self.smoothing()})

    def on_evaluate(self, args, state, control, metrics, **given):
        self.losses.append(metrics["eval_loss"])


def made(folder, epochs=HORIZON, **arguments):
    """Return the example's trainer with a few examples, and what watches it."""
    found = trainer(scheduler(), epochs, seed=0)
    for name, value in {"output_dir": str(folder), **arguments}.items():
        setattr(found.args, name, value)
    found.train_dataset.labels = found.train_dataset.labels[:100]
    watch = Watch(lambda: found.smoothing)
    found.add_callback(watch)
    return found, watch


def values_given(losses):
    replayed, found = scheduler(), []
    for loss in losses:
        found.append(replayed.values)
        replayed.step(loss)
    return found


def test_each_epoch_trains_with_the_plans_values(tmp_path):
    found, watch = made(tmp_path)
    found.train()
    assert watch.values == values_given(watch.losses)
    assert len(watch.values) == HORIZON
    found.evaluate(splits(0)[2])  # an evaluation of one's own is no epoch


def test_an_evaluation_before_the_first_epoch_is_no_epoch(tmp_path):
    found, watch = made(tmp_path, eval_on_start=True)
    found.train()
    assert len(watch.losses) == HORIZON + 1
    assert watch.values == values_given(watch.losses[1:])


def test_a_checkpoint_goes_on_with_the_next_epochs_values(tmp_path):
    whole, watched = made(tmp_path, save_strategy="epoch")
    whole.train()
    rest, watch = made(tmp_path)
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert watch.values == watched.values[2:]
    assert watch.losses == watched.losses[2:]


def test_a_run_takes_each_epochs_values_and_ends_when_it_is_pruned():
    engine = make_engine(train_a_run, horizon=HORIZON)
    engine.fill(0, seed=1)
    still = [engine.train_epoch([{"lr": 0.0}])[0].metrics["eval_loss"] for _ in range(2)]
    moved = engine.train_epoch([{"lr": 0.01}])[0].metrics["eval_loss"]
    assert still[0] == still[1] != moved
    assert engine.test(0).keys() == {"test_loss"}


def test_loss_terms_are_taken_in_training_alone(tmp_path):
    found, _ = made(tmp_path, epochs=1)
    [schedule] = [c for c in found.callback_handler.callbacks if isinstance(c, ScheduleCallback)]
    seen = []
    schedule._driver.record_terms = seen.append
    schedule.observe(fit=1.0)
    found.train()
    assert not seen


def test_a_learning_rate_that_two_would_move_is_refused(tmp_path):
    found, _ = made(tmp_path, lr_scheduler_type="linear")
    with pytest.raises(InputError, match="set lr_scheduler_type='constant'"):
        found.train()


def test_an_evaluation_after_each_epoch_is_asked_for(tmp_path):
    found, _ = made(tmp_path, eval_strategy="steps")
    with pytest.raises(InputError, match="set eval_strategy='epoch'"):
        found.train()
