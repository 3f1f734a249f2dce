"""The part of the callbacks that does not depend on the framework."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from schedsearch.engines.loop import LoopRun
from schedsearch.errors import CheckpointRefusedError, TrainingRefusedError, did_you_mean
from schedsearch.integrations.setting_watch import SettingWatch
from schedsearch.integrations.value_function import OnValues, ValueFunction
from schedsearch.integrations.value_sources import value_source
from schedsearch.loss import set_weights, weighted_losses, weights_of
from schedsearch.parameter_groups import (
    apply_values,
    check_optimizers,
    moved_keys,
)
from schedsearch.scheduler import Scheduler, as_float


class ScheduleDriver:
    """Drives a scheduler or a run through the epochs of a training.

    Attributes:
        source: of the values, from epoch to epoch.
        metric: the name of the objective in the framework.

    Args:
        source: the scheduler of a config, or the run of a search, which ends when it is pruned.
        metric: the name in the framework of the validation metric that is the objective.
        on_values: called with the values before each epoch, and before each optimizer step at
            which they differ, to set values other than those of optimizers and of each
            WeightedLoss in the model.

    Raises:
        InputError: the source is neither.
    """

    def __init__(
        self, source: Scheduler | LoopRun, metric: str, on_values: OnValues | None = None
    ) -> None:
        self.source = value_source(source)
        self.metric = metric
        self._applied: Mapping[str, float] | None = None
        self._watch = SettingWatch()
        self._groups = 0
        self._function = None if on_values is None else ValueFunction(on_values)
        self._terms: defaultdict[str, list[float]] = defaultdict(list)

    @property
    def applied(self) -> Mapping[str, float]:
        """The values that are set."""
        return self._applied or {}

    @property
    def has_on_values(self) -> bool:
        """Whether values may have names that only `on_values` knows."""
        return self._function is not None

    def apply(self, model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
        """Set the values of the epoch's beginning.

        They are set in the optimizers and in each WeightedLoss of the model; then `on_values` is
        called.

        Raises:
            InputError: the optimizers begin with different values of a key that one value sets, or
                `on_values` has not read a value that nothing else takes.
        """
        self._set(self.source.values, model, optimizers)

    def check_targets(self, model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
        """Check that this training has a place for each value of the plan.

        `on_values` may take any value, and must read it. Where it copies all values, this is not
        known, so a name that resembles that of a weight in a WeightedLoss that the plan leaves out
        is refused: a misspelt weight would stay 1.

        Raises:
            InputError: a value has the name of no key of the parameter groups and of no weight of
                a WeightedLoss, and `on_values` is not given or cannot be meant.
        """
        weights = weights_of(weighted_losses(model))
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        untaken = []
        left_out = [_term_of(weight) for weight in weights if weight not in self.source.names]
        for name in self.source.planned:
            if name in weights or moved_keys([name], groups):
                continue
            if self._function is None:
                raise _no_target(name, weights)
            untaken.append(name)
            if name.startswith("weights.") and (similar := did_you_mean(_term_of(name), left_out)):
                raise TrainingRefusedError(
                    f"the plan sets `{name}`, but no WeightedLoss in the model has this term "
                    f"({', '.join(weights)}): {similar} Else, if on_values sets it, rename it, or "
                    "let the plan set the other weight too"
                )
        if self._function is not None:
            self._function.expect(untaken)

    def check_unchanged(self) -> None:
        """Check that the optimizers have the values that were set in them.

        Raises:
            InputError: one has another value.
        """
        self._watch.check()

    def watch(self, optimizers: Iterable[Optimizer]) -> None:
        """Check the values after each step of the optimizers, until `unwatch`."""
        self._watch.begin(optimizers)

    def unwatch(self) -> None:
        """End the checks after each step of the optimizers."""
        self._watch.end()

    def apply_step(
        self, model: nn.Module, optimizers: Iterable[Optimizer], step: int, of: int
    ) -> bool:
        """Set the values of an optimizer step if they are not set; return whether they were not.

        Args:
            model: as in `apply`.
            optimizers: as in `apply`.
            step: counted from 0 in the epoch.
            of: the number of optimizer steps of the epoch.
        """
        values = self.source.at(step, of)
        optimizers = list(optimizers)
        if values == self._applied and self._groups == _count_groups(optimizers):
            return False
        self._set(values, model, optimizers)
        return True

    def _set(
        self, values: Mapping[str, float], model: nn.Module, optimizers: Iterable[Optimizer]
    ) -> None:
        given = list(optimizers)
        check_optimizers(values, given)
        self._applied = values
        self._watch.expect([setting for o in given for setting in apply_values(values, o)])
        self._groups = _count_groups(given)
        set_weights(values, weighted_losses(model))
        if self._function is not None:
            self._function.call(values)

    @property
    def terms(self) -> dict[str, list[float]]:
        """A copy of the loss terms that were recorded since the last epoch ended."""
        return {name: list(values) for name, values in self._terms.items()}

    def clear_terms(self) -> None:
        """Forget the loss terms that were recorded since the last epoch ended."""
        self._terms.clear()

    def record_terms(self, terms: Mapping[str, Any]) -> None:
        """Record the loss terms of a step; `end_epoch` reports their means."""
        for name, term in terms.items():
            self._terms[name].append(as_float(term))

    def end_epoch(self, metrics: Mapping[str, Any], model: Mapping[str, Any] | None = None) -> None:
        """End an epoch with these validation metrics.

        Args:
            metrics: of the validation.
            model: the state of the model, which is copied only if it is needed.

        Raises:
            InputError: the metric of the objective is missing.
        """
        if self.metric not in metrics:
            raise self.missing_metric(metrics)
        metric = as_float(metrics[self.metric])
        terms = {name: _mean(values) for name, values in self._terms.items()}
        self.clear_terms()
        self.unwatch()  # until the next epoch, whose values are set first
        if self._function is not None:
            self._function.end_epoch()
        self.source.end_epoch(self.metric, metric, terms, model)

    def missing_metric(self, metrics: Iterable[str]) -> TrainingRefusedError:
        """Return the error for a validation that gave only these metrics."""
        names = ", ".join(metrics)
        found = f"it has {names}" if names else "no metric was logged in it"
        return TrainingRefusedError(
            f"the validation has no metric `{self.metric}`, {found}: log it in every epoch, or "
            "pass another metric to ScheduleCallback"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, as plain data that JSON can hold."""
        return {**self.source.state_dict(), "terms": self.terms}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state in a checkpoint; an empty one has no effect.

        Raises:
            InputError: the state belongs to another plan, or to a scheduler instead of a run.
            SchedSearchError: the state belongs to another run.
        """
        if not state:
            return
        key = self.source.key
        if key not in state:
            raise CheckpointRefusedError(
                "the checkpoint has the state of a "
                f"{'scheduler' if key == 'run' else 'run of a search'}, but ScheduleCallback has a "
                f"{'run of a search' if key == 'run' else 'scheduler'}: begin without it"
            )
        self.source.load_state_dict(state[key])
        self._terms = defaultdict(list, state["terms"])


def _term_of(weight: str) -> str:
    return weight.removeprefix("weights.")


def _no_target(name: str, weights: Sequence[str]) -> TrainingRefusedError:
    similar = did_you_mean(name, weights)
    found = f"no WeightedLoss in the model with this term ({', '.join(weights)})"
    return TrainingRefusedError(
        f"the plan sets `{name}`, but nothing in this training has a value of this "
        "name: no parameter group of the optimizer, and "
        f"{found if weights else 'no WeightedLoss in the model'}; "
        + (f"{similar} Else " if similar else "")
        + "pass on_values= to ScheduleCallback, a function that sets it"
    )


def _mean(values: Sequence[float]) -> float:
    """Return the mean; NaN if it has none, as in a training that diverges."""
    try:
        return math.fsum(values) / len(values)
    except (OverflowError, ValueError):  # the sum is too large, or contains inf and -inf
        return math.nan


def _count_groups(optimizers: Iterable[Optimizer]) -> int:
    return sum(len(optimizer.param_groups) for optimizer in optimizers)
