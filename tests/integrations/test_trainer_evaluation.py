"""Each evaluation of the Trainer ends an epoch of the plan, or the setting is refused."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest
import torch
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from schedsearch.errors import InputError
from schedsearch.integrations.evaluation_intervals import EvaluationIntervals
from schedsearch.integrations.trainer_checks import check_position
from schedsearch.scheduler import Scheduler
from tests.integrations.documented import rows, section
from tests.integrations.trainers import (
    BATCHES,
    CLOSED_LOOP,
    HORIZON,
    PLAN_BY_STEP,
    Rows,
    Stream,
    by_interval,
    make_trainer,
    rates,
)


def accuracy(prediction, compute_result=True):
    return {"accuracy": float(len(prediction.predictions) > 0)}


#: Settings, and the optimizer steps of each interval: all at the values of their interval.
INTERVALS = {
    "epoch": ({}, [8] * 4),
    "epoch and max_steps": ({"max_steps": 32}, [8] * 4),
    "max_steps with a short last epoch": ({"max_steps": 26}, [8, 8, 8, 2]),
    "fractional num_train_epochs": ({"num_train_epochs": 3.25}, [8, 8, 8, 2]),
    "accumulation with a short last step": ({"gradient_accumulation_steps": 3}, [3] * 4),
    "accumulation of more than an epoch": ({"gradient_accumulation_steps": 20}, [1] * 4),
    "accelerator_config": (
        {"accelerator_config": {"gradient_accumulation_kwargs": {"num_steps": 4}}},
        [2] * 4,
    ),
    "dataloader_drop_last": (
        {"per_device_train_batch_size": 3, "dataloader_drop_last": True},
        [5] * 4,
    ),
    "per_device_train_batch_size": ({"per_device_train_batch_size": 3}, [6] * 4),
    "steps": ({"eval_strategy": "steps", "eval_steps": 8}, [8] * 4),
    "steps within epochs": ({"eval_strategy": "steps", "eval_steps": 3, "max_steps": 12}, [3] * 4),
    "steps over epochs": (
        {"eval_strategy": "steps", "eval_steps": 12, "num_train_epochs": 6},
        [12] * 4,
    ),
    "steps with a short last interval": (
        {"eval_strategy": "steps", "eval_steps": 9},
        [9, 9, 9, 5],
    ),
    "eval_steps as a share": ({"eval_strategy": "steps", "eval_steps": 0.25}, [8] * 4),
    "eval_steps from logging_steps": ({"eval_strategy": "steps", "logging_steps": 8}, [8] * 4),
    "eval_delay before the first evaluation": ({"eval_delay": 1}, [8] * 4),
    "eval_delay in steps": ({"eval_strategy": "steps", "eval_steps": 8, "eval_delay": 8}, [8] * 4),
    "eval_on_start": ({"eval_on_start": True}, [8] * 4),
}


@pytest.mark.parametrize("case", INTERVALS)
def test_each_evaluation_ends_an_epoch_of_the_plan(tmp_path, case):
    arguments, lengths = INTERVALS[case]
    trainer, recorder, schedule = make_trainer(tmp_path, **arguments)
    trainer.train()
    assert recorder.values == [v for i, n in enumerate(lengths) for v in rates(1)[i : i + 1] * n]
    assert schedule._driver.source.epoch == HORIZON
    ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
    assert [step for step, _ in recorder.evaluations if step] == ends


@pytest.mark.parametrize("case", INTERVALS)
def test_values_by_the_step_move_through_each_interval(tmp_path, case):
    arguments, lengths = INTERVALS[case]
    trainer, recorder, _ = make_trainer(tmp_path, PLAN_BY_STEP, **arguments)
    trainer.train()
    assert recorder.values == by_interval(lengths, PLAN_BY_STEP)


@pytest.mark.parametrize("case", INTERVALS)
def test_a_closed_loop_schedule_follows_the_evaluations(tmp_path, case):
    arguments, lengths = INTERVALS[case]
    trainer, recorder, _ = make_trainer(tmp_path, CLOSED_LOOP, **arguments)
    trainer.train()
    replayed, expected = Scheduler(CLOSED_LOOP, horizon=HORIZON), []
    losses = [metrics["eval_loss"] for step, metrics in recorder.evaluations if step]
    for length, loss in zip(lengths, losses, strict=True):
        expected += [replayed.values["lr"]] * length
        replayed.step(loss)
    assert recorder.values == expected


STEPS = {"eval_strategy": "steps"}
#: Settings with which the Trainer would not evaluate once in each epoch, and the advice.
REFUSED = {
    "no evaluation": ({"eval_strategy": "no"}, "set eval_strategy='epoch'"),
    "eval_delay": ({"eval_delay": 2}, "set eval_delay=0"),
    "eval_delay in steps": ({**STEPS, "eval_steps": 8, "eval_delay": 9}, "set eval_delay=0"),
    "eval_delay after the end": ({"eval_delay": 99}, "set eval_delay=0"),
    "too few epochs": ({"num_train_epochs": 3}, "set num_train_epochs=4, or a horizon of 3"),
    "too many epochs": ({"num_train_epochs": 5}, "set num_train_epochs=4, or a horizon of 5"),
    "a fraction of a fifth epoch": ({"num_train_epochs": 4.1}, "set num_train_epochs=4"),
    "max_steps too small": ({"max_steps": 9}, "set num_train_epochs=4 and max_steps=-1"),
    "eval_steps too small": ({**STEPS, "eval_steps": 4}, "set eval_steps=8"),
    "eval_steps too large": ({**STEPS, "eval_steps": 500}, "set eval_steps=8"),
    "no eval_steps": (STEPS, "set eval_steps=8"),
    "eval_steps counted in batches": (
        {**STEPS, "eval_steps": 8, "gradient_accumulation_steps": 2},
        r"evaluates 2 times.*eval_steps=8, gradient_accumulation_steps=2; 8 of 16 optimizer "
        r"steps between evaluations\): set eval_steps=4, or a horizon of 2",
    ),
    "eval_steps that do not fit": ({**STEPS, "eval_steps": 4, "max_steps": 9}, "set max_steps=16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_without_one_evaluation_per_epoch_are_refused(tmp_path, case):
    arguments, advice = REFUSED[case]
    trainer, recorder, _ = make_trainer(tmp_path, **arguments)
    with pytest.raises(InputError, match=advice):
        trainer.train()
    assert not recorder.steps


def test_a_refused_horizon_names_both_numbers(tmp_path):
    trainer, _, _ = make_trainer(tmp_path, num_train_epochs=6)
    with pytest.raises(InputError, match=r"the plan has 4 epochs, but the Trainer evaluates 6"):
        trainer.train()


def test_a_version_that_trains_fewer_steps_than_its_epochs_have_is_refused(tmp_path):
    trainer, _, _ = make_trainer(tmp_path)
    intervals = EvaluationIntervals(length=3, total=8)
    with pytest.raises(InputError, match="set max_steps=12"):
        check_position(intervals, trainer.args, step=0, epoch=0, horizon=HORIZON)


# --- data -----------------------------------------------------------------------------------------


def test_data_without_a_length_is_trained_with_eval_steps(tmp_path):
    trainer, recorder, _ = make_trainer(
        tmp_path,
        PLAN_BY_STEP,
        given={"train_dataset": Stream()},
        max_steps=20,
        eval_steps=5,
        **STEPS,
    )
    trainer.train()  # more than two passes over the data
    assert recorder.values == by_interval([5] * 4, PLAN_BY_STEP)


def test_data_without_a_length_is_refused_with_evaluation_by_epochs(tmp_path):
    trainer, recorder, _ = make_trainer(tmp_path, given={"train_dataset": Stream()}, max_steps=32)
    with pytest.raises(InputError, match="set eval_strategy='steps' and eval_steps"):
        trainer.train()
    assert not recorder.steps


class Promising(IterableDataset):
    """Data with less than its length."""

    def __len__(self):
        return 2 * BATCHES

    def __iter__(self):
        return iter(Rows(0, 10))


def test_a_wrong_length_of_the_data_is_an_error_if_values_move_within_the_epoch(tmp_path):
    trainer, _, _ = make_trainer(tmp_path, PLAN_BY_STEP, given={"train_dataset": Promising()})
    with pytest.raises(InputError, match="ended after 5 of 8 optimizer steps"):
        trainer.train()


class Texts(Rows):
    """Rows with the lengths of texts."""

    def __getitem__(self, index):
        return {**super().__getitem__(index), "input_ids": [0] * (index + 1)}


def without_ids(rows):
    return {key: torch.stack([row[key] for row in rows]) for key in ("inputs", "labels")}


@pytest.mark.parametrize("strategy", ["random", "sequential", "group_by_length", "batch_rebalance"])
def test_the_order_of_the_data_does_not_matter(tmp_path, strategy):
    trainer, recorder, _ = make_trainer(
        tmp_path,
        PLAN_BY_STEP,
        given={
            "train_dataset": Texts(),
            "eval_dataset": Texts(20, 30),
            "data_collator": without_ids,
        },
        train_sampling_strategy=strategy,
        length_column_name="size",
        gradient_accumulation_steps=2,
        remove_unused_columns=False,
    )
    trainer.train()
    assert recorder.values == by_interval([4] * 4, PLAN_BY_STEP)


# --- metrics --------------------------------------------------------------------------------------

TWO_SETS = {"eval_dataset": {"a": Rows(20, 30), "b": Rows(30, 40)}}


@pytest.mark.parametrize("metric", ["eval_a_loss", "eval_b_loss", "b_loss"])
@pytest.mark.parametrize("strategy", ["epoch", "steps"])
def test_the_metric_may_be_that_of_any_named_evaluation_set(tmp_path, metric, strategy):
    trainer, recorder, _ = make_trainer(
        tmp_path,
        CLOSED_LOOP,
        metric=metric,
        given=TWO_SETS,
        eval_strategy=strategy,
        eval_steps=BATCHES,
        eval_on_start=True,
    )
    trainer.train()
    name = metric if metric.startswith("eval") else f"eval_{metric}"
    losses = [found[name] for step, found in recorder.evaluations if step and name in found]
    replayed, expected = Scheduler(CLOSED_LOOP, horizon=HORIZON), []
    for loss in losses:
        expected += [replayed.values["lr"]] * BATCHES
        replayed.step(loss)
    assert len(losses) == HORIZON
    assert recorder.values == expected


METRICS = {
    "no compute_metrics": ("accuracy", {}, "gives only eval_loss"),
    "the name of another set": ("eval_c_loss", TWO_SETS, "only eval_a_loss, eval_b_loss"),
    "no set": ("eval_loss", TWO_SETS, "only eval_a_loss, eval_b_loss"),
    "no set, with compute_metrics": (
        "eval_accuracy",
        {**TWO_SETS, "compute_metrics": accuracy},
        "one of eval_a_..., eval_b_...",
    ),
}


@pytest.mark.parametrize("case", METRICS)
def test_a_metric_that_the_evaluation_cannot_give_is_refused(tmp_path, case):
    metric, given, message = METRICS[case]
    trainer, recorder, _ = make_trainer(tmp_path, metric=metric, given=given)
    with pytest.raises(InputError, match=message):
        trainer.train()
    assert not recorder.steps


def test_a_metric_of_predictions_is_refused_with_prediction_loss_only(tmp_path):
    given = {"compute_metrics": accuracy}
    trainer, recorder, _ = make_trainer(
        tmp_path, metric="accuracy", given=given, prediction_loss_only=True
    )
    with pytest.raises(InputError, match="prediction_loss_only=False"):
        trainer.train()
    assert not recorder.steps


def test_a_missing_metric_is_an_error_before_the_first_step_with_eval_on_start(tmp_path):
    given = {"compute_metrics": accuracy}
    trainer, recorder, _ = make_trainer(tmp_path, metric="f1", given=given, eval_on_start=True)
    with pytest.raises(InputError, match="no metric `f1`, it has eval_loss, eval_accuracy"):
        trainer.train()
    assert not recorder.steps


@pytest.mark.parametrize("epochs", [1, HORIZON])
def test_a_missing_metric_is_an_error_after_the_first_evaluation(tmp_path, epochs):
    trainer, recorder, _ = make_trainer(
        tmp_path,
        metric="f1",
        given={"compute_metrics": accuracy},
        num_train_epochs=epochs,
        horizon=epochs,
    )
    with pytest.raises(InputError, match="no metric `f1`, it has eval_loss, eval_accuracy"):
        trainer.train()
    assert len(recorder.steps) == BATCHES


#: Settings of the evaluation that do not change the plan.
UNCHANGED = {
    "eval_accumulation_steps": {"eval_accumulation_steps": 1},
    "batch_eval_metrics": {"batch_eval_metrics": True},
    "eval_do_concat_batches": {"eval_do_concat_batches": False},
    "eval_use_gather_object": {"eval_use_gather_object": True},
    "per_device_eval_batch_size": {"per_device_eval_batch_size": 3},
    "include_for_metrics": {"include_for_metrics": ["loss"]},
    "bf16_full_eval": {"bf16_full_eval": True},
    "average_tokens_across_devices": {"average_tokens_across_devices": False},
    "dataloader_num_workers": {"dataloader_num_workers": 1},
    "max_grad_norm": {"max_grad_norm": 0.1},
    "no max_grad_norm": {"max_grad_norm": 0},
    "bf16": {"bf16": True},
    "torch_empty_cache_steps": {"torch_empty_cache_steps": 1},
    "full_determinism": {"full_determinism": True},
    "data_seed": {"data_seed": 3},
    "include_num_input_tokens_seen": {
        "include_num_input_tokens_seen": "all",
    },
    "skip_memory_metrics": {"skip_memory_metrics": True},
    "learning_rate": {"learning_rate": 123.0},
    "warmup_steps with a constant": {"warmup_steps": 5},
    "logging_nan_inf_filter": {"logging_nan_inf_filter": False},
    "seed": {"seed": 5},
}


@pytest.mark.parametrize("case", UNCHANGED)
def test_other_settings_do_not_change_the_plan(tmp_path, case):
    trainer, recorder, _ = make_trainer(
        tmp_path,
        PLAN_BY_STEP,
        metric="accuracy",
        given={"compute_metrics": accuracy},
        **UNCHANGED[case],
    )
    trainer.train()
    assert recorder.values == by_interval([BATCHES] * 4, PLAN_BY_STEP)


# --- evaluations that the Trainer does not start --------------------------------------------------


class Evaluating(TrainerCallback):
    """Evaluates other data at an event."""

    def __init__(self, event, **options):
        self.options = options
        setattr(self, event, self.evaluate)

    def evaluate(self, args, state, control, **given):
        self.trainer.evaluate(Rows(50, 60), **self.options)
        control.should_evaluate = True  # evaluate() resets it


@pytest.mark.parametrize("event", ["on_step_end", "on_epoch_end", "on_step_begin", "on_save"])
@pytest.mark.parametrize("position", ["before", "after"])
def test_an_evaluation_under_another_name_does_not_matter(tmp_path, event, position):
    callback = Evaluating(event, metric_key_prefix="train")
    trainer, recorder, _ = make_trainer(
        tmp_path, PLAN_BY_STEP, save_strategy="epoch", **{position: (callback,)}
    )
    callback.trainer = trainer
    trainer.train()
    assert recorder.values == by_interval([BATCHES] * 4, PLAN_BY_STEP)


def test_two_evaluations_under_one_name_at_the_end_of_an_epoch_are_an_error(tmp_path):
    callback = Evaluating("on_epoch_end")
    trainer, _, _ = make_trainer(tmp_path, after=(callback,))
    callback.trainer = trainer
    with pytest.raises(InputError, match="another metric_key_prefix"):
        trainer.train()


def test_evaluations_and_predictions_outside_of_the_training_do_not_matter(tmp_path):
    trainer, recorder, schedule = make_trainer(tmp_path)
    trainer.evaluate()
    trainer.predict(Rows(50, 60))
    trainer.train()
    trainer.evaluate()
    trainer.predict(Rows(50, 60))
    assert recorder.values == rates()
    assert schedule._driver.source.epoch == HORIZON


class Refusing(TrainerCallback):
    """Prevents an evaluation."""

    def on_epoch_end(self, args, state, control, **given):
        control.should_evaluate = False


def test_an_evaluation_that_a_callback_prevents_is_an_error(tmp_path):
    trainer, recorder, _ = make_trainer(tmp_path, after=(Refusing(),))
    with pytest.raises(InputError, match="did not evaluate after optimizer step 8"):
        trainer.train()
    assert len(recorder.steps) == BATCHES


class Additional(TrainerCallback):
    """Makes the Trainer evaluate after each step."""

    def on_step_end(self, args, state, control, **given):
        control.should_evaluate = True


def test_additional_evaluations_do_not_end_an_epoch_of_the_plan(tmp_path):
    trainer, recorder, _ = make_trainer(
        tmp_path, before=(Additional(),), eval_strategy="steps", eval_steps=BATCHES
    )
    trainer.train()
    assert recorder.values == rates()


# --- the documentation ----------------------------------------------------------------------------


def test_the_documentation_says_what_becomes_of_each_setting():
    text = section("### Settings of the Trainer")
    named = rows("setting") | set(re.findall(r"`(\w+)`", text.split("The other settings")[1]))
    assert {field.name for field in dataclasses.fields(TrainingArguments)} <= named
    constructor = set(inspect.signature(Trainer).parameters) - {
        *("model", "args", "data_collator", "processing_class", "callbacks"),
        *("compute_loss_func", "preprocess_logits_for_metrics"),
    }
    assert constructor <= rows("argument or method of the Trainer")
