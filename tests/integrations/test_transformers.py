"""The transformers callback: it sets the values of a plan, resumes, and ends a pruned run."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import accelerate
import pytest
import torch
from transformers import TrainerCallback

from examples.with_transformers import splits, trainer
from examples.with_transformers import train as train_a_run
from schedsearch.engines import make_engine
from schedsearch.errors import InputError
from schedsearch.files import write_document
from schedsearch.integrations.transformers import ScheduleCallback
from schedsearch.lr_scheduler import PlanLR
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Exponential, IncrementOnImprovement
from tests.integrations import accelerated
from tests.integrations.plans import PLAN_BY_STEP, train_by_step, values_by_step
from tests.searches import ROOT

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


def make_trainer(folder, epochs=HORIZON, source=None, digits=100, **arguments):
    """Return the trainer of the example with a small data set, and its recorder."""
    hf_trainer = trainer(source or scheduler(), epochs, seed=0)
    for name, value in {"output_dir": str(folder), **arguments}.items():
        setattr(hf_trainer.args, name, value)
    hf_trainer.train_dataset.labels = hf_trainer.train_dataset.labels[:digits]
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
    assert engine.test(0).keys() == {"test_loss"}


def test_loss_terms_outside_of_training_are_not_recorded(tmp_path):
    hf_trainer, _ = make_trainer(tmp_path)
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


# --- by the step ----------------------------------------------------------------------------------

#: The 5 batches of 50 digits in 2 steps: of 3 and of 2 batches.
ACCUMULATED = {"gradient_accumulation_steps": 3}
STEPS = 2


#: What the example trains with: it has no loss term.
STEP_PLAN = Plan(
    {names: each for names, each in PLAN_BY_STEP.schedules.items() if names != ("weights.l1",)},
    intervals=PLAN_BY_STEP.intervals,
)


class StepRecorder(TrainerCallback):
    """Records the learning rate and the label smoothing in each optimizer step, and the logs."""

    def __init__(self, smoothing):
        self.smoothing, self.rates, self.smoothings, self.logged = smoothing, [], [], []

    def on_pre_optimizer_step(self, args, state, control, optimizer, **given):
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.smoothings.append(self.smoothing())

    def on_log(self, args, state, control, logs, **given):
        if "learning_rate" in logs:
            self.logged.append(logs["learning_rate"])


def make_step_trainer(folder, source=None, **arguments):
    source = source or Scheduler(STEP_PLAN, horizon=HORIZON)
    options = {**ACCUMULATED, **arguments}
    hf_trainer, _ = make_trainer(folder, source=source, digits=250, **options)
    recorder = StepRecorder(lambda: hf_trainer.smoothing)
    hf_trainer.add_callback(recorder)
    return hf_trainer, recorder


@pytest.mark.parametrize(("accumulated", "steps"), [(1, 5), (3, STEPS)])
def test_each_optimizer_step_trains_with_the_values_of_its_time(tmp_path, accumulated, steps):
    hf_trainer, recorder = make_step_trainer(
        tmp_path,
        gradient_accumulation_steps=accumulated,
        logging_strategy="steps",
        logging_steps=1,
    )
    hf_trainer.train()
    assert recorder.rates == values_by_step("lr", steps) == recorder.logged
    assert recorder.smoothings == values_by_step("label_smoothing", steps)


def test_training_resumes_within_an_epoch_with_the_values_of_the_next_step(tmp_path):
    whole, _ = make_step_trainer(tmp_path, save_strategy="steps", save_steps=3)
    whole.train()
    rest, recorder = make_step_trainer(tmp_path)
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert recorder.rates == values_by_step("lr", STEPS)[3:]
    assert recorder.smoothings == values_by_step("label_smoothing", STEPS)[3:]


def test_a_run_of_a_search_trains_each_step_with_the_values_of_its_time(tmp_path):
    recorders = []

    def train(run):
        hf_trainer, recorder = make_step_trainer(tmp_path, run)
        recorders.append(recorder)
        hf_trainer.train()

    train_by_step(train, STEP_PLAN)
    assert recorders[0].rates == values_by_step("lr", STEPS)
    assert recorders[0].smoothings == values_by_step("label_smoothing", STEPS)


def test_a_schedule_of_the_trainer_is_kept_if_the_plan_has_no_learning_rate(tmp_path):
    plan = Plan({("label_smoothing",): IncrementOnImprovement(initial=0.2, increment=0.1)})
    source = Scheduler(plan, horizon=HORIZON)
    arguments = {"lr_scheduler_type": "linear", "learning_rate": 0.01}
    hf_trainer, recorder = make_step_trainer(tmp_path, source, **arguments)
    hf_trainer.train()
    total = HORIZON * STEPS
    assert recorder.rates == pytest.approx([0.01 * (1 - step / total) for step in range(total)])


def test_the_trainer_steps_the_torch_scheduler_of_a_plan(tmp_path):
    hf_trainer, recorder = make_step_trainer(tmp_path)
    hf_trainer.remove_callback(ScheduleCallback)
    optimizer = torch.optim.AdamW(hf_trainer.model.parameters())
    plan = Plan({("lr",): STEP_PLAN.schedules["lr",]}, intervals={"lr": "step"})
    lr = PlanLR(optimizer, plan, horizon=HORIZON, steps_per_epoch=STEPS)
    hf_trainer.optimizer, hf_trainer.lr_scheduler = optimizer, lr  # as `optimizers=` does
    hf_trainer.train()
    assert recorder.rates == values_by_step("lr", STEPS)


def test_accelerate_steps_the_torch_scheduler_of_a_plan():
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=3)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters())
    plan = Plan({("lr",): STEP_PLAN.schedules["lr",]}, intervals={"lr": "step"})
    lr = PlanLR(optimizer, plan, horizon=HORIZON, steps_per_epoch=STEPS)
    loader = torch.utils.data.DataLoader(torch.ones(5, 1), 1)
    model, optimizer, loader, lr = accelerator.prepare(model, optimizer, loader, lr)
    rates = []
    for _ in range(HORIZON):
        for batch in loader:
            with accelerator.accumulate(model):
                accelerator.backward(model(batch).square().mean())
                if accelerator.sync_gradients:
                    rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                lr.step()
                optimizer.zero_grad()
    assert rates == values_by_step("lr", STEPS)


@pytest.mark.long
@pytest.mark.parametrize("accumulation", [1, 3])
def test_accelerate_steps_the_torch_scheduler_of_a_plan_in_two_processes(tmp_path, accumulation):
    path = tmp_path / "best.json"
    plan = Plan({("lr",): STEP_PLAN.schedules["lr",]}, intervals={"lr": "step"})
    about = {"name": "plan", "task": "module:Task", "objective": {"metric": "val_loss"}}
    write_document(path, {**about, "horizon": HORIZON, **plan.to_tables()})
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ran = subprocess.run(
        [*launch, "-m", accelerated.__name__, str(path), str(accumulation), str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [(each["rank"], each["of"]) for each in found] == [(0, 2), (1, 2)]
    # Each process has 5 batches of an epoch.
    expected = values_by_step("lr", math.ceil(5 / accumulation))
    assert [each["rates"] for each in found] == [expected] * 2
