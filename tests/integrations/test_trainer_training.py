"""Trainings that stop, restart, resume, log and report loss terms."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from schedsearch.engines import make_engine
from schedsearch.engines.loop_context import LoopContext
from schedsearch.errors import InputError
from schedsearch.integrations.trainer_checks import calling_trainer
from schedsearch.integrations.transformers import ScheduleCallback
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Constant, Linear
from tests.integrations.moved_folders import resume_in_moved_folder
from tests.integrations.trainers import (
    BATCHES,
    CLOSED_LOOP,
    HORIZON,
    LR,
    PLAN,
    PLAN_BY_STEP,
    Network,
    Rows,
    by_interval,
    make_trainer,
    rates,
)

# --- checkpoints ----------------------------------------------------------------------------------

EPOCH = {"eval_strategy": "epoch"}
STEPS = {"eval_strategy": "steps", "eval_steps": 6, "max_steps": 24}
#: Settings, and the checkpoints to resume from.
CHECKPOINTS = {
    "after an epoch": ({**EPOCH, "save_strategy": "epoch"}, [8, 16, 24]),
    # At steps 8 and 16 the Trainer would save before it evaluates.
    "within epochs": ({**EPOCH, "save_strategy": "steps", "save_steps": 4}, [4, 8, 12, 16]),
    "steps": ({**STEPS, "save_strategy": "steps", "save_steps": 6}, [6, 12]),
    "steps within": ({**STEPS, "save_strategy": "steps", "save_steps": 5}, [5, 10, 20]),
    "epochs within steps": ({**STEPS, "save_strategy": "epoch"}, [8, 16]),
    "accumulation": (
        {
            **EPOCH,
            "save_strategy": "steps",
            "save_steps": 2,
            "gradient_accumulation_steps": 3,
        },
        [2, 4, 6],
    ),
    "model only": ({**EPOCH, "save_strategy": "epoch", "save_only_model": True}, [16]),
    "best": (
        {**EPOCH, "save_strategy": "best", "metric_for_best_model": "loss"},
        [8],
    ),
    "best at end": (
        {**EPOCH, "save_strategy": "epoch", "load_best_model_at_end": True},
        [16],
    ),
    "states of callbacks": (
        {**EPOCH, "save_strategy": "epoch", "restore_callback_states_from_checkpoint": True},
        [16],
    ),
    "data from the beginning": (
        {**EPOCH, "save_strategy": "epoch", "ignore_data_skip": True},
        [16],
    ),
    "limited": ({**EPOCH, "save_strategy": "steps", "save_steps": 8, "save_total_limit": 1}, [32]),
}
#: A closed-loop learning rate, and one by the step.
MIXED = Plan(
    {("lr",): LR, ("momentum",): CLOSED_LOOP.schedules["lr",]},
    intervals={"lr": "step"},
)


@pytest.mark.long
@pytest.mark.parametrize("case", CHECKPOINTS)
def test_a_resumed_training_has_the_values_of_an_undisturbed_one(tmp_path, case):
    arguments, steps = CHECKPOINTS[case]
    recorders = {}
    for key in ("lr", "momentum"):
        whole, recorders[key], _ = make_trainer(
            tmp_path, MIXED, key=key, optim_args="momentum=0.5", **arguments
        )
        whole.train()
    for step in steps:
        for key in ("lr", "momentum"):
            rest, recorder, schedule = make_trainer(
                tmp_path / "rest", MIXED, key=key, optim_args="momentum=0.5", **arguments
            )
            rest.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
            assert recorder.steps == recorders[key].steps[step:]
            assert schedule._driver.source.epoch == HORIZON
            shutil.rmtree(tmp_path / "rest")


def test_a_checkpoint_of_the_last_step_of_an_epoch_contains_its_evaluation(tmp_path):
    trainer, _, _ = make_trainer(tmp_path, save_strategy="steps", save_steps=8)
    trainer.train()
    state = json.loads((tmp_path / "checkpoint-16" / "trainer_state.json").read_text())
    assert state["stateful_callbacks"]["schedsearch"]["scheduler"]["epoch"] == 2
    assert [log["step"] for log in state["log_history"] if "eval_loss" in log] == [8, 16]


def test_a_checkpoint_within_a_data_epoch_cannot_begin_its_data_again(tmp_path):
    arguments = {"save_strategy": "steps", "save_steps": 4}
    make_trainer(tmp_path, **arguments)[0].train()
    rest, recorder, _ = make_trainer(tmp_path, ignore_data_skip=True, **arguments)
    with pytest.raises(InputError, match="set ignore_data_skip=False"):
        rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-12"))
    assert not recorder.steps


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    make_trainer(tmp_path, save_strategy="steps", save_steps=8)[0].train()
    rest, recorder, _ = make_trainer(tmp_path, gradient_accumulation_steps=2)
    with pytest.raises(InputError, match="resume with the settings of its training"):
        rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert not recorder.steps


def test_a_checkpoint_of_a_training_without_the_plan_is_refused(tmp_path):
    alone, _, _ = make_trainer(tmp_path, save_strategy="epoch")
    alone.remove_callback(ScheduleCallback)
    alone.train()
    rest, recorder, _ = make_trainer(tmp_path)
    with pytest.raises(InputError, match="is after 2 of 4 evaluations, but its plan is after ep"):
        rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-16"))
    assert not recorder.steps


# --- loss terms -----------------------------------------------------------------------------------


class Reporting(Trainer):
    """Reports the loss of each batch, also of evaluations, as a term."""

    schedule: ScheduleCallback

    def compute_loss(self, model, inputs, return_outputs=False, **given):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **given)
        self.schedule.observe(fit=inputs["labels"].sum())
        return (loss, outputs) if return_outputs else loss


class Recording(Scheduler):
    """Records the loss terms of each epoch."""

    def __init__(self):
        super().__init__(PLAN, horizon=HORIZON)
        self.terms = []

    def step(self, metric, *, terms=None):
        self.terms.append(terms)
        super().step(metric, terms=terms)


def terms_by_epoch(folder, resume=None, **arguments):
    source = Recording()
    trainer, _, schedule = make_trainer(folder, source=source, trainer_class=Reporting, **arguments)
    trainer.schedule = schedule
    trainer.train(resume_from_checkpoint=resume)
    return [entry["fit"] for entry in source.terms]


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("strategy", ["epoch", "steps"])
def test_loss_terms_are_means_over_the_batches_of_an_interval(tmp_path, accumulation, strategy):
    intervals = {
        "eval_strategy": strategy,
        "eval_steps": 3 if accumulation == 3 else 8,
        "gradient_accumulation_steps": accumulation,
        "eval_on_start": True,
    }
    found = terms_by_epoch(tmp_path, **intervals)
    rows = Rows()
    mean = sum(float(rows[i]["labels"]) for i in range(len(rows))) / BATCHES
    assert found == pytest.approx([mean] * HORIZON)  # each epoch has all rows


def test_loss_terms_of_an_interrupted_interval_are_in_the_checkpoint(tmp_path):
    arguments = {"save_strategy": "steps", "save_steps": 4}
    whole = terms_by_epoch(tmp_path, **arguments)
    rest = terms_by_epoch(tmp_path, str(tmp_path / "checkpoint-12"), **arguments)
    assert rest == pytest.approx(whole[1:])


# --- stops and restarts ---------------------------------------------------------------------------


class Stopping(TrainerCallback):
    """Stops the training after an optimizer step."""

    def __init__(self, after):
        self.after = after

    def on_step_end(self, args, state, control, **given):
        control.should_training_stop |= state.global_step == self.after


@pytest.mark.parametrize("after", [16, 19])
def test_a_callback_may_stop_the_training_which_can_be_resumed(tmp_path, after):
    arguments = {"save_strategy": "epoch"}
    trainer, recorder, schedule = make_trainer(
        tmp_path, PLAN_BY_STEP, after=(Stopping(after),), **arguments
    )
    trainer.train()
    whole = by_interval([BATCHES] * 4, PLAN_BY_STEP)
    assert recorder.values == whole[:after]
    assert schedule._driver.source.epoch == 2
    rest, recorder, _ = make_trainer(tmp_path, PLAN_BY_STEP, **arguments)
    rest.train(resume_from_checkpoint=True)
    assert recorder.values == whole[after:]


class Signalling(TrainerCallback):
    """Requests a checkpoint, as SIGTERM does, after an optimizer step."""

    def __init__(self, after):
        self.after = after

    def on_optimizer_step(self, args, state, control, **given):
        if state.global_step + 1 == self.after:
            self.manager.is_checkpoint_requested = True


@pytest.mark.parametrize("after", [16, 19])
@pytest.mark.parametrize("strategy", ["epoch", "steps"])
def test_a_checkpoint_on_a_signal_continues_the_plan(tmp_path, after, strategy):
    arguments = {"eval_strategy": strategy, "eval_steps": 8, "enable_jit_checkpoint": True}
    signal = Signalling(after)
    trainer, first, _ = make_trainer(tmp_path, PLAN_BY_STEP, before=(signal,), **arguments)
    [signal.manager] = [
        c.jit_manager for c in trainer.callback_handler.callbacks if hasattr(c, "jit_manager")
    ]
    trainer.train()
    rest, recorder, _ = make_trainer(tmp_path, PLAN_BY_STEP, **arguments)
    rest.train(resume_from_checkpoint=True)
    whole = by_interval([BATCHES] * 4, PLAN_BY_STEP)
    assert first.values + recorder.values == whole
    assert len(first.values) == after


def test_a_callback_may_stop_the_training_within_an_interval_of_steps(tmp_path):
    trainer, recorder, schedule = make_trainer(
        tmp_path, after=(Stopping(19),), eval_strategy="steps", eval_steps=8
    )
    trainer.train()
    assert recorder.values == rates()[:19]
    assert schedule._driver.source.epoch == 2


def test_early_stopping_ends_the_training(tmp_path):
    plan = Plan({("lr",): Constant(0.0)})  # the loss never improves
    trainer, recorder, schedule = make_trainer(
        tmp_path,
        plan,
        before=(EarlyStoppingCallback(early_stopping_patience=1),),
        metric_for_best_model="loss",
        load_best_model_at_end=True,
        save_strategy="epoch",
    )
    trainer.train()
    assert len(recorder.steps) == 2 * BATCHES
    assert schedule._driver.source.epoch == 2


class CuttingEpochs(TrainerCallback):
    """Ends each data epoch after 3 steps."""

    def on_step_end(self, args, state, control, **given):
        control.should_epoch_stop |= state.global_step % 3 == 0


def test_a_data_epoch_that_is_cut_short_ends_an_epoch_of_the_plan(tmp_path):
    trainer, recorder, _ = make_trainer(tmp_path, after=(CuttingEpochs(),))
    trainer.train()
    assert recorder.values == rates(3)


def test_a_data_epoch_that_is_cut_short_is_an_error_if_values_move_within_it(tmp_path):
    trainer, recorder, _ = make_trainer(tmp_path, PLAN_BY_STEP, after=(CuttingEpochs(),))
    with pytest.raises(InputError, match="ended after 3 of 8 optimizer steps"):
        trainer.train()
    assert len(recorder.steps) == 3


class OutOfMemory(Trainer):
    """Has memory for one row only, from a number of calls on."""

    left = 0

    def training_step(self, model, inputs, *given):
        self.left -= 1
        if self.left < 0 and len(inputs["labels"]) > 1:
            raise RuntimeError("CUDA out of memory.")
        return super().training_step(model, inputs, *given)


@pytest.mark.long
@pytest.mark.parametrize("left", [0, 3, 10])
def test_the_plan_begins_again_with_a_smaller_batch_size(tmp_path, left):
    trainer, recorder, _ = make_trainer(
        tmp_path, PLAN_BY_STEP, trainer_class=OutOfMemory, auto_find_batch_size=True
    )
    trainer.left = left
    trainer.train()
    again = by_interval([2 * BATCHES] * 4, PLAN_BY_STEP)
    assert recorder.values == by_interval([BATCHES] * 4, PLAN_BY_STEP)[:left] + again


def train_with_a_smaller_batch_size(folder, left):
    """Train two epochs of a run of a search; return the results of the engine."""

    def train(run):
        trainer, _, _ = make_trainer(
            folder, source=run, trainer_class=OutOfMemory, auto_find_batch_size=True
        )
        trainer.left = left
        trainer.train()

    return results_of(train, 2)


def results_of(train, epochs):
    train.hyperparameters = {"lr": 0.1}
    engine = make_engine(train, horizon=HORIZON)
    engine.fill(0, seed=1)
    results = [engine.train_epoch([{"lr": 0.1}])[0] for _ in range(epochs)]
    engine.release(0)
    return results


def test_a_run_of_a_search_begins_again_in_its_first_epoch(tmp_path):
    assert all(r.metrics for r in train_with_a_smaller_batch_size(tmp_path, left=3))


def test_a_run_of_a_search_cannot_begin_again_later(tmp_path):
    first, second = train_with_a_smaller_batch_size(tmp_path, left=10)
    assert first.metrics
    assert isinstance(second, InputError)
    assert "set per_device_train_batch_size" in str(second)


def test_a_second_training_needs_a_new_scheduler(tmp_path):
    trainer, recorder, _ = make_trainer(tmp_path)
    trainer.train()
    with pytest.raises(InputError, match="pass a new scheduler for each training"):
        trainer.train()
    assert recorder.values == rates()


def test_a_training_may_continue_a_plan(tmp_path):
    scheduler = Scheduler(PLAN, horizon=HORIZON)
    scheduler.step(1.0)
    trainer, recorder, _ = make_trainer(tmp_path, source=scheduler, num_train_epochs=3)
    trainer.train()
    assert recorder.values == rates()[BATCHES:]


class Interrupting(TrainerCallback):
    """Interrupts the first training."""

    has_interrupted = False

    def on_step_end(self, args, state, control, **given):
        if state.global_step == 13 and not self.has_interrupted:
            self.has_interrupted = True
            raise KeyboardInterrupt


@pytest.mark.parametrize("resume", [False, True])
def test_a_training_after_an_exception_begins_again_or_resumes(tmp_path, resume):
    trainer, recorder, _ = make_trainer(
        tmp_path, PLAN_BY_STEP, after=(Interrupting(),), save_strategy="steps", save_steps=5
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.train(resume_from_checkpoint=resume)
    whole = by_interval([BATCHES] * 4, PLAN_BY_STEP)
    assert recorder.values == whole[:13] + whole[10 if resume else 0 :]


class FailingSGD(torch.optim.SGD):
    """Fails in a step once it is told to."""

    fails = False

    @torch.no_grad()
    def step(self, closure=None):
        if self.fails:
            raise RuntimeError("out of memory")
        return super().step(closure)


@pytest.mark.parametrize("where", ["after a step", "within a step"])
def test_an_optimizer_may_be_used_again_after_an_exception(tmp_path, where):
    model = Network()
    optimizer = FailingSGD(model.parameters(), lr=0.1)
    given = {"model": model, "optimizers": (optimizer, None)}
    optimizer.fails = where == "within a step"
    trainer, _, _ = make_trainer(tmp_path, after=(Interrupting(),), given=given)
    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        trainer.train()
    optimizer.fails = False
    plan = Plan({("lr",): Linear(initial=0.4, final=0.0, duration=HORIZON)})
    trainer, recorder, _ = make_trainer(tmp_path, plan, given=given)
    trainer.train()
    assert recorder.values == by_interval([BATCHES] * HORIZON, plan)


def test_an_optimizer_may_be_used_without_a_plan_after_an_exception(tmp_path):
    trainer = make_trainer(tmp_path, after=(Interrupting(),))[0]
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    for group in trainer.optimizer.param_groups:
        group["lr"] = 0.5
    trainer.optimizer.step()


def test_a_second_training_in_a_run_is_refused(tmp_path):
    raised = []

    def train(run):
        trainer, _, _ = make_trainer(tmp_path, source=run)
        trainer.train()
        try:
            trainer.train()
        except InputError as error:
            raised.append(str(error))

    results_of(train, HORIZON)
    assert "train once in a run" in raised[0]


@pytest.mark.parametrize("epochs", [3, 5])
def test_settings_that_do_not_fit_the_horizon_of_a_run_are_refused(tmp_path, epochs):
    def train(run):
        make_trainer(tmp_path, source=run, num_train_epochs=epochs)[0].train()

    [error] = results_of(train, 1)
    assert isinstance(error, InputError)
    assert f"set num_train_epochs=4, or a horizon of {epochs}" in str(error)


def resumable(run):
    trainer, _, _ = make_trainer(
        run.directory, source=run, save_strategy="steps", save_steps=4, optim="adamw_torch"
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(run.directory))


resumable.hyperparameters = {"lr": 0.1}


def test_a_run_goes_on_from_the_checkpoints_in_its_folder(tmp_path):
    values = [{"lr": rate} for rate in rates(1)]

    def engine_at(folder):
        engine = make_engine(resumable, horizon=HORIZON)
        folder.mkdir(exist_ok=True)
        engine.fill(0, 1, None, LoopContext("this run", (), lambda: folder))
        return engine

    undisturbed, first = engine_at(tmp_path / "undisturbed"), engine_at(tmp_path / "lost")
    expected = [undisturbed.train_epoch([epoch])[0] for epoch in values]
    undisturbed.release(0)
    lost = [first.train_epoch([epoch])[0] for epoch in values[:2]]
    first.release(0)
    second = engine_at(tmp_path / "lost")
    [resumed] = second.train_epoch([values[0]])
    rest = [second.train_epoch([epoch])[0] for epoch in values[2:]]
    second.release(0)
    assert resumed.epoch == 2
    assert [*lost, *rest] == expected


def test_a_run_whose_checkpoint_is_at_the_horizon_trains_nothing_and_is_tested(tmp_path):
    def train(run):
        resumable(run)
        run.test(loss=0.5)

    train.hyperparameters = resumable.hyperparameters
    values = [{"lr": rate} for rate in rates(1)]
    for _ in range(2):
        engine = make_engine(train, horizon=HORIZON)
        engine.fill(0, 1, None, LoopContext("this run", (), lambda: tmp_path))
        results = [engine.train_epoch([epoch])[0] for epoch in values]
        assert engine.test(0) == {"test_loss": 0.5}
        engine.release(0)
        values = values[:1]
    assert results[0].epoch == HORIZON


#: Ends within a data epoch, after a checkpoint.
WITHIN = {
    "eval_strategy": "steps",
    "eval_steps": 3,
    "max_steps": 12,
    "save_strategy": "steps",
    "save_steps": 3,
}


@pytest.mark.parametrize("plan", [PLAN, PLAN_BY_STEP])
def test_from_the_last_step_within_a_data_epoch_nothing_is_trained(tmp_path, plan):
    whole, _, _ = make_trainer(tmp_path, plan, **WITHIN)
    whole.train()
    again, recorder, _ = make_trainer(tmp_path, plan, **WITHIN)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-12"))
    assert not recorder.evaluations
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def test_a_run_whose_checkpoint_is_at_the_end_within_a_data_epoch_is_tested(tmp_path):
    tested = []

    def train(run):
        trainer, _, _ = make_trainer(run.directory, source=run, **WITHIN)
        trainer.train(resume_from_checkpoint=get_last_checkpoint(run.directory))
        tested.append(trainer.evaluate()["eval_loss"])

    train.hyperparameters = {"lr": 0.1}
    values = [{"lr": rate} for rate in rates(1)]
    for _ in range(2):
        engine = make_engine(train, horizon=HORIZON)
        engine.fill(0, 1, None, LoopContext("this run", (), lambda: tmp_path))
        results = [engine.train_epoch([epoch])[0] for epoch in values]
        engine.release(0)
        values = values[:1]
    assert results[0].epoch == HORIZON
    assert tested[0] == tested[1]


def test_a_run_that_early_stopping_ends_is_complete(tmp_path):
    def train(run):
        make_trainer(
            tmp_path,
            source=run,
            after=(EarlyStoppingCallback(early_stopping_patience=1),),
            metric_for_best_model="loss",
        )[0].train()

    train.hyperparameters = {"lr": 0.0}
    engine = make_engine(train, horizon=HORIZON)
    engine.fill(0, seed=1)
    results = [engine.train_epoch([{"lr": 0.0}])[0] for _ in range(3)]
    assert [bool(result.metrics) for result in results] == [True, True, False]
    assert results[2].stopped
    engine.release(0)


class StopAt(TrainerCallback):
    """Stops the training at an optimizer step, without a state in the checkpoint."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **given):
        if state.global_step == self.step:
            control.should_training_stop = True


@pytest.mark.parametrize("best", [True, False])
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("stopping", ["patience", "step"])
def test_a_run_that_stopped_after_its_last_checkpoint_trains_no_more(
    tmp_path, stopping, place, best
):
    """The process ended after the checkpoint, and before the stop was recorded."""
    weights, steps = [], []

    def train(run):
        stop = EarlyStoppingCallback(1) if stopping == "patience" else StopAt(3 * BATCHES)
        trainer, recorder, _ = make_trainer(
            tmp_path,
            source=run,
            metric_for_best_model="loss",
            load_best_model_at_end=best,
            save_strategy="epoch",
            **{place: (stop,)},
        )
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(tmp_path)))
        weights.append([p.tolist() for p in trainer.model.parameters()])
        steps.append(len(recorder.steps))
        run.test(loss=trainer.evaluate()["eval_loss"])

    train.hyperparameters = {"lr": 0.1}
    # The third epoch is worse than the second one.
    values = [{"lr": rate} for rate in (0.05, 0.05, 2.0, 0.05)]
    tested = []
    for epochs in (values, values[:1]):
        engine = make_engine(train, horizon=HORIZON)
        engine.fill(0, 1, None, LoopContext("this run", (), lambda: tmp_path))
        results = [engine.train_epoch([epoch])[0] for epoch in epochs]
        if len(epochs) == 1:
            assert results[0].epoch == 3
            results = [engine.train_epoch([values[3]])[0]]
        assert results[-1].stopped
        tested.append(engine.test(0))
        engine.release(0)
    assert tested[0] == tested[1]
    assert weights[0] == weights[1]
    assert steps == [3 * BATCHES, 1]


def test_a_run_that_is_handed_back_goes_on_with_the_patience_that_is_left(tmp_path):
    counters = []

    class Counting(EarlyStoppingCallback):
        def on_evaluate(self, args, state, control, **given):
            super().on_evaluate(args, state, control, **given)
            counters.append(self.early_stopping_patience_counter)

    def train(run):
        trainer, _, _ = make_trainer(
            tmp_path,
            source=run,
            before=(Counting(3),),
            metric_for_best_model="loss",
            save_strategy="epoch",
        )
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(tmp_path)))

    train.hyperparameters = {"lr": 0.0}
    for epochs in (2, 3):
        engine = make_engine(train, horizon=HORIZON)
        engine.fill(0, 1, None, LoopContext("this run", (), lambda: tmp_path))
        results = [engine.train_epoch([{"lr": 0.0}])[0] for _ in range(epochs)]
        engine.release(0)  # as a worker does that stops
    assert results[0].epoch == 2
    assert counters == [0, 1, 2, 3]


def test_a_run_in_another_folder_loads_the_best_model_that_it_had_before(tmp_path):
    tested = []

    def train(run):
        trainer, _, _ = make_trainer(
            run.directory,
            source=run,
            metric_for_best_model="loss",
            load_best_model_at_end=True,
            save_strategy="epoch",
            save_total_limit=2,
        )
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(run.directory)))
        tested.append((trainer.evaluate()["eval_loss"], Path(trainer.state.best_model_checkpoint)))

    train.hyperparameters = {"lr": 0.1}
    # The second epoch is the best one.
    values = [{"lr": rate} for rate in (0.05, 0.05, 2.0, 0.0)]

    assert resume_in_moved_folder(train, values, tmp_path).epoch == 3
    (loss, _), _, (again, best) = tested
    assert (again, best) == (loss, tmp_path / "second" / f"checkpoint-{2 * BATCHES}")


class Calling(Trainer):
    """A Trainer that says which Trainer a callback finds."""

    def find(self, callback):
        return calling_trainer(callback)


def test_a_callback_finds_only_the_trainer_that_has_it(tmp_path):
    made, _, schedule = make_trainer(tmp_path, trainer_class=Calling)
    assert made.find(schedule) is made
    assert made.find(make_trainer(tmp_path)[2]) is None
    assert calling_trainer(schedule) is None


def test_two_callbacks_are_refused(tmp_path):
    second = ScheduleCallback(Scheduler(PLAN, horizon=HORIZON), metric="eval_loss")
    trainer, recorder, _ = make_trainer(tmp_path, before=(second,))
    with pytest.raises(InputError, match="two ScheduleCallbacks"):
        trainer.train()
    assert not recorder.steps


# --- logs -----------------------------------------------------------------------------------------

WEIGHTS = Plan({("lr",): LR, ("weights.l1",): Constant(0.25)}, intervals={"lr": "step"})
LOGGED = {"logging_strategy": "steps", "logging_steps": 1}


class Logs(TrainerCallback):
    def __init__(self):
        self.logged = []

    def on_log(self, args, state, control, logs, **given):
        self.logged.append(dict(logs))


def test_the_values_in_force_are_logged_to_the_loggers_of_the_trainer(tmp_path):
    logs = Logs()
    trainer, recorder, _ = make_trainer(tmp_path, WEIGHTS, on_values=dict, **LOGGED)
    trainer.callback_handler.callbacks.insert(0, logs)  # as the loggers of report_to
    trainer.train()
    training = [entry for entry in logs.logged if "loss" in entry]
    assert [entry["lr"] for entry in training] == by_interval([BATCHES] * 4, PLAN_BY_STEP)
    assert [entry["learning_rate"] for entry in training] == [entry["lr"] for entry in training]
    assert {entry["weights.l1"] for entry in training} == {0.25}
    history = [entry["lr"] for entry in trainer.state.log_history if "loss" in entry]
    assert history == recorder.values
    assert not any("lr" in metrics for _, metrics in recorder.evaluations)
    assert [c for c in trainer.callback_handler.callbacks if "Value" in type(c).__name__] == []


def test_the_first_step_is_logged_with_its_values(tmp_path):
    trainer, recorder, _ = make_trainer(
        tmp_path, PLAN_BY_STEP, logging_strategy="steps", logging_steps=8, logging_first_step=True
    )
    trainer.train()
    history = {entry["step"]: entry["lr"] for entry in trainer.state.log_history if "lr" in entry}
    assert history == {step: recorder.values[step - 1] for step in (1, 8, 16, 24, 32)}


def test_the_values_in_force_are_scalars_of_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    trainer, _, _ = make_trainer(
        tmp_path, WEIGHTS, on_values=dict, report_to=["tensorboard"], **LOGGED
    )
    trainer.train()
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    found = [event.value for event in events.Scalars("train/lr")]
    assert found == torch.tensor(by_interval([BATCHES] * 4, PLAN_BY_STEP)).tolist()
    assert {event.value for event in events.Scalars("train/weights.l1")} == {0.25}
