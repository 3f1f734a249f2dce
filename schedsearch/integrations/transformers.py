"""A callback for the Trainer of Hugging Face transformers that sets scheduled values.

    config = schedsearch.load("best.toml")
    schedule = ScheduleCallback(config.scheduler(), metric="eval_loss")
    arguments = TrainingArguments(
        num_train_epochs=config.horizon, eval_strategy="epoch", lr_scheduler_type="constant", …
    )
    Trainer(model, arguments, callbacks=[schedule], …).train()

In a search, pass the run instead of a scheduler; it ends the training when it is pruned.
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from schedsearch.engines.loop import LoopRun
from schedsearch.errors import TrainingRefusedError
from schedsearch.integrations import trainer_checks
from schedsearch.integrations.decay_groups import record_decay_groups
from schedsearch.integrations.driver import ScheduleDriver
from schedsearch.integrations.evaluation_intervals import EvaluationIntervals, IntervalClock
from schedsearch.integrations.trainer_optimizer_checks import (
    check_learning_rate_scheduler,
    check_optimizer,
)
from schedsearch.integrations.trainer_states import (
    find_best_checkpoint,
    restore_states,
    was_stopped,
)
from schedsearch.integrations.training_without_step import TrainingWithoutStep
from schedsearch.integrations.value_function import OnValues
from schedsearch.integrations.value_logger import ValueLogger
from schedsearch.parameter_groups import moved_keys
from schedsearch.scheduler import Scheduler

#: The key of the state of the schedules in a checkpoint of the Trainer.
_KEY = "schedsearch"


class ScheduleCallback(TrainerCallback):
    """Sets the scheduled values before each epoch and updates the schedules after evaluation.

    An epoch of the plan is the interval between two evaluations of the Trainer. Values at the
    interval "step" are set before the first batch of each optimizer step.

    Values with the name of a key of the parameter groups (`lr`, `weight_decay`, ...) are set in the
    optimizer, and `weights.TERM` in each `WeightedLoss` of the model. The state of the schedules is
    saved in the checkpoints of the Trainer. The values in force are logged together with the
    `learning_rate` of the Trainer.

    Args:
        source: the scheduler of a config, or the run of a search.
        metric: the evaluation metric that is the objective, with its name in the Trainer, or
            without `eval_`, as in `metric_for_best_model`.
        on_values: called with the values before each epoch, and before each optimizer step at
            which they differ, to set all other values.
    """

    def __init__(
        self, source: Scheduler | LoopRun, *, metric: str, on_values: OnValues | None = None
    ) -> None:
        self._driver = ScheduleDriver(source, metric, on_values)
        self._source = self._driver.source
        self._logger = ValueLogger(self._driver)
        #: The state of the schedules when the training began.
        self._initial: dict[str, Any] = {}
        self._clock: IntervalClock | None = None
        self._save_after_evaluation = False
        self._without_step: TrainingWithoutStep | None = None

    def observe(self, **terms: Any) -> None:
        """Record the loss terms of a batch; call it where the loss is computed."""
        if self._clock is not None and self._clock.in_step:
            self._driver.record_terms(terms)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Check the settings, and continue from the checkpoint if there is one.

        Raises:
            InputError: with a setting the Trainer would not train by the plan, or its checkpoint
                does not belong to the plan.
        """
        driver, trainer = self._driver, trainer_checks.calling_trainer(self)
        trainer_checks.check_processes(args, driver.source.processes)
        if (best := driver.source.offered_model) is not None:
            self._without_step = TrainingWithoutStep(given["model"], best)
            return
        stateful: Any = state.stateful_callbacks
        saved = dict(stateful)
        intervals = trainer_checks.evaluation_intervals(args, state, given["train_dataloader"])
        if trainer is not None:
            trainer_checks.check_trainer(trainer, ScheduleCallback, driver.metric)
        self._begin_plan(state)
        step, optimizer = state.global_step, given["optimizer"]
        if driver.source.is_search and step:
            find_best_checkpoint(args, state)
        if self._has_ended(intervals, step):
            # Within a data epoch the Trainer would train another step.
            self._without_step = TrainingWithoutStep.after_stop(given["model"], args, state)
            return
        trainer_checks.check_position(
            intervals, args, step, driver.source.epoch, driver.source.horizon
        )
        driver.check_targets(given["model"], [optimizer])
        check_optimizer(args, given["model"], optimizer, driver.source.values)
        if "lr" in moved_keys(driver.source.values, optimizer.param_groups):
            check_learning_rate_scheduler(args, given["lr_scheduler"])
        if trainer is not None:
            record_decay_groups(driver.source.values, trainer, given["model"], optimizer)
            self._logger.put_first(trainer)
        if driver.source.is_search and step and trainer is not None:
            callbacks = trainer.callback_handler.callbacks
            restore_states(callbacks, saved)
            if was_stopped(callbacks, saved, _KEY, args):
                self._without_step = TrainingWithoutStep.after_stop(given["model"], args, state)
                return
        self._clock = IntervalClock(intervals, step, awaits_first=args.eval_on_start)
        self._save_after_evaluation = False
        self._save_state(state)

    def _has_ended(self, intervals: EvaluationIntervals, step: int) -> bool:
        """Whether the checkpoint is after the last step of the plan."""
        source = self._source
        is_last = bool(step) and intervals.completed(step) == intervals.count
        return not source.in_epoch or (is_last and source.epoch == source.horizon)

    def _begin_plan(self, state: TrainerState) -> None:
        """Go to the epoch of the checkpoint, or to the first one."""
        driver = self._driver
        saved: Any = state.stateful_callbacks
        has_begun = self._clock is not None  # auto_find_batch_size, or an exception, ended it
        driver.clear_terms()
        if not driver.source.is_search:
            if not has_begun:
                self._initial = driver.state_dict()
            driver.load_state_dict(saved.get(_KEY) or (self._initial if has_begun else {}))
        elif not has_begun:
            driver.load_state_dict(saved.get(_KEY, {}))
        if driver.source.in_epoch or driver.source.next_epoch():
            return
        if has_begun or state.global_step < state.max_steps:
            raise TrainingRefusedError(
                "the run of the search has ended, but the Trainer trains again: train once in a "
                "run; `trainer.evaluate()` needs no training"
            )

    def _save_state(self, state: TrainerState) -> None:
        saved: Any = state.stateful_callbacks
        saved[_KEY] = self._driver.state_dict()

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Set the values of the epoch of the plan if a new one begins."""
        if self._without_step is not None:
            return
        self._begin_interval(state, **given)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Set the values of the optimizer step, if they change in the epoch of the plan."""
        if self._without_step is not None:
            return
        clock = self._begin_interval(state, **given)
        optimizers = [given["optimizer"]]
        if self._driver.apply_step(given["model"], optimizers, clock.step, clock.steps):
            self._keep_learning_rates(**given)
        clock.in_step = True

    def _begin_interval(self, state: TrainerState, *, model: Any, **given: Any) -> IntervalClock:
        clock = self._running_clock()
        clock.ended_at = None
        if clock.awaits_evaluation:
            raise self._missing_evaluation(clock, state)
        if not clock.has_values:
            self._driver.apply(model, [given["optimizer"]])
            self._keep_learning_rates(**given)
            clock.has_values = True
        return clock

    def _missing_evaluation(
        self, clock: IntervalClock, state: TrainerState
    ) -> TrainingRefusedError:
        if clock.metrics:
            return self._driver.missing_metric(clock.metrics)
        return TrainingRefusedError(
            f"the Trainer did not evaluate after optimizer step {state.global_step}, the end of an "
            "epoch of the plan: remove the callback that sets control.should_evaluate to False"
        )

    def _keep_learning_rates(self, *, optimizer: Any, lr_scheduler: Any, **_: Any) -> None:
        """Let the Trainer's constant scheduler keep and log the learning rates of the plan."""
        if "lr" in moved_keys(self._driver.applied, optimizer.param_groups):
            # It resets the learning rates to base_lrs after each step.
            lr_scheduler.base_lrs = [group["lr"] for group in optimizer.param_groups]
            lr_scheduler._last_lr = list(lr_scheduler.base_lrs)
            lr_scheduler.lr_lambdas = lr_scheduler.lr_lambdas[:1] * len(lr_scheduler.base_lrs)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Check that the values of the plan are in force.

        Raises:
            InputError: something else has changed one.
        """
        if self._without_step is not None:
            return
        self._running_clock().in_step = False
        self._driver.check_unchanged()
        # For this step only: no callback learns of an exception that ends the training.
        self._driver.watch([given["optimizer"]])

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Let a checkpoint of this step contain the loss terms of the epoch so far."""
        self._driver.unwatch()
        if terms := self._driver.terms:
            saved: Any = state.stateful_callbacks
            saved[_KEY]["terms"] = terms

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Count the optimizer steps of the epoch of the plan."""
        if self._without_step is not None:
            self._without_step.stop(control)
            return
        clock = self._running_clock()
        clock.step += 1
        if clock.step < clock.steps:
            return
        if args.eval_strategy == "steps":
            clock.await_end()
            control.should_evaluate = True  # older versions do not evaluate after the last step
        elif control.should_save:
            # The Trainer would save before the evaluation, which changes the state of the plan.
            control.should_save, self._save_after_evaluation = False, True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Await the evaluation if it follows each data epoch."""
        if self._without_step is not None:
            self._without_step.stop(control)
            return
        clock = self._running_clock()
        clock.ended_at = None
        if args.eval_strategy == "epoch":
            clock.await_end()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """End the epoch of the plan; stop the Trainer if the run has ended.

        The Trainer calls it once for each of several named evaluation sets.
        """
        clock, metrics = self._clock, given["metrics"]
        if clock is None:
            return  # The caller evaluates, not the Trainer in a training.
        names = trainer_checks.possible_names(self._driver.metric)
        name = next((name for name in names if name in metrics), None)
        if not clock.awaits_evaluation:
            self._check_only_evaluation(clock, state, name)
            return
        clock.metrics += metrics
        if name is None:
            return
        if clock.awaits_first:
            clock.awaits_first = False
            return
        if clock.step < clock.steps and control.should_training_stop:
            clock.awaits_end = False  # so that a checkpoint of this step continues the epoch
            return
        self._check_length(clock)
        self._driver.end_epoch(
            {self._driver.metric: metrics[name]},
            given["model"].state_dict() if self._source.is_search else None,
        )
        clock.end_interval(state.global_step)
        self._save_state(state)
        saved: Any = state.stateful_callbacks
        # A checkpoint on SIGTERM was saved before the evaluation.
        by_signal = getattr(args, "enable_jit_checkpoint", False) and control.should_training_stop
        if self._save_after_evaluation or by_signal:
            control.should_save, self._save_after_evaluation = True, False
        if not self._source.next_epoch():
            control.should_training_stop = saved[_KEY]["ended"] = True

    def _check_only_evaluation(
        self, clock: IntervalClock, state: TrainerState, name: str | None
    ) -> None:
        is_second = name is not None and clock.ended_at == state.global_step
        if is_second and clock.index < clock.intervals.count:
            raise TrainingRefusedError(
                f"two evaluations gave `{name}` after optimizer step {state.global_step}, and only "
                "one of them is the end of an epoch of the plan: give evaluations in callbacks "
                "another metric_key_prefix, as in trainer.evaluate(data, metric_key_prefix='train')"
            )

    def _check_length(self, clock: IntervalClock) -> None:
        if self._source.moving and clock.step < clock.steps:
            raise TrainingRefusedError(
                f'{", ".join(self._source.moving)}: the interval is "step", but the data epoch '
                f"ended after {clock.step} of {clock.steps} optimizer steps: remove the callback "
                "that sets control.should_epoch_stop, or correct the length of the training data"
            )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """End the training.

        Raises:
            InputError: the last evaluation did not give the metric.
        """
        if self._without_step is not None:
            self._without_step.end()
            self._without_step = None
            self._source.stop()
            self._logger.remove()
            return
        clock, self._clock = self._running_clock(), None
        self._source.stop()
        self._logger.remove()
        if clock.awaits_end and clock.step == clock.steps:
            raise self._missing_evaluation(clock, state)

    def _running_clock(self) -> IntervalClock:
        assert self._clock is not None  # on_train_begin sets it
        return self._clock
