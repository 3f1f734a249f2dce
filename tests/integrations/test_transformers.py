"""The transformers callback: it sets the values of a plan, resumes, and ends a pruned run."""

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


class Recorder(TrainerCallback):
    """Records the values at the end of each epoch and the evaluation loss after it."""

    def __init__(self, smoothing):
        self.smoothing, self.values, self.losses = smoothing, [], []

    def on_epoch_end(self, args, state, control, optimizer, **given):
        lr = optimizer.param_groups[0]["lr"]
        self.values.append({"lr": lr, "label_smoothing": self.smoothing()})

    def on_evaluate(self, args, state, control, metrics, **given):
        self.losses.append(metrics["eval_loss"])


def make_trainer(folder, epochs=HORIZON, **arguments):
    """Return the trainer of the example with a small data set, and its recorder."""
    hf_trainer = trainer(scheduler(), epochs, seed=0)
    for name, value in {"output_dir": str(folder), **arguments}.items():
        setattr(hf_trainer.args, name, value)
    hf_trainer.train_dataset.labels = hf_trainer.train_dataset.labels[:100]
    recorder = Recorder(lambda: hf_trainer.smoothing)
    hf_trainer.add_callback(recorder)
    return hf_trainer, recorder


def expected_values(losses):
    replayed, values = scheduler(), []
    for loss in losses:
        values.append(replayed.values)
        replayed.step(loss)
    return values


def test_each_epoch_trains_with_the_values_of_the_plan(tmp_path):
    hf_trainer, recorder = make_trainer(tmp_path)
    hf_trainer.train()
    assert recorder.values == expected_values(recorder.losses)
    assert len(recorder.values) == HORIZON
    hf_trainer.evaluate(splits(0)[2])  # an evaluation that the user starts does not end an epoch


def test_an_evaluation_before_the_first_epoch_does_not_end_an_epoch(tmp_path):
    hf_trainer, recorder = make_trainer(tmp_path, eval_on_start=True)
    hf_trainer.train()
    assert len(recorder.losses) == HORIZON + 1
    assert recorder.values == expected_values(recorder.losses[1:])


def test_training_resumes_from_a_checkpoint_with_the_values_of_the_next_epoch(tmp_path):
    whole, whole_recorder = make_trainer(tmp_path, save_strategy="epoch")
    whole.train()
    rest, recorder = make_trainer(tmp_path)
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert recorder.values == whole_recorder.values[2:]
    assert recorder.losses == whole_recorder.losses[2:]


def test_a_run_sets_the_values_of_each_epoch_and_ends_when_it_is_pruned():
    engine = make_engine(train_a_run, horizon=HORIZON)
    engine.fill(0, seed=1)
    unchanged = [engine.train_epoch([{"lr": 0.0}])[0].metrics["eval_loss"] for _ in range(2)]
    changed = engine.train_epoch([{"lr": 0.01}])[0].metrics["eval_loss"]
    assert unchanged[0] == unchanged[1] != changed
    assert engine.test(0).keys() == {"test_eval_loss"}


def test_loss_terms_outside_of_training_are_not_recorded(tmp_path):
    hf_trainer, _ = make_trainer(tmp_path, epochs=1)
    [schedule] = [
        c for c in hf_trainer.callback_handler.callbacks if isinstance(c, ScheduleCallback)
    ]
    seen = []
    schedule._driver.record_terms = seen.append
    schedule.observe(fit=1.0)
    hf_trainer.train()
    assert not seen


def test_a_second_schedule_of_the_learning_rate_is_refused(tmp_path):
    hf_trainer, _ = make_trainer(tmp_path, lr_scheduler_type="linear")
    with pytest.raises(InputError, match="set lr_scheduler_type='constant'"):
        hf_trainer.train()


def test_evaluation_in_another_interval_than_epochs_is_refused(tmp_path):
    hf_trainer, _ = make_trainer(tmp_path, eval_strategy="steps")
    with pytest.raises(InputError, match="set eval_strategy='epoch'"):
        hf_trainer.train()
