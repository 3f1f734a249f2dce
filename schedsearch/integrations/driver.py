"""The part of the callbacks that does not depend on the framework."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from schedsearch.engines.loop import LoopRun
from schedsearch.errors import InputError, SchedSearchError
from schedsearch.loss import WeightedLoss
from schedsearch.parameter_groups import apply_values, check_optimizers
from schedsearch.scheduler import Scheduler, as_float

OnValues = Callable[[Mapping[str, float]], object]


class ScheduleDriver:
    """Drives a scheduler or a run through the epochs of a training.

    Args:
        source: the scheduler of a config, or the run of a search, which ends when it is pruned.
        metric: the name in the framework of the validation metric that is the objective.
        on_values: called with the values before each epoch, and before each optimizer step at
            which they differ, to set values other than those of optimizers and of each
            WeightedLoss in the model.
    """

    def __init__(
        self, source: Scheduler | LoopRun, metric: str, on_values: OnValues | None = None
    ) -> None:
        self.metric = metric
        self._source = source
        self._run = iter(source) if isinstance(source, LoopRun) else None
        self._run_values: Mapping[str, float] | None = None
        self._applied: Mapping[str, float] | None = None
        self._on_values = on_values
        self._terms: defaultdict[str, list[float]] = defaultdict(list)

    def next_epoch(self) -> bool:
        """Go to the next epoch; return False if the run of a search has ended."""
        if self._run is not None:
            epoch = next(self._run, None)
            self._run_values = None if epoch is None else epoch[1]
            return self._run_values is not None
        return True

    def stop(self) -> None:
        """Say that the framework stops training before the horizon.

        A run in a search then ends with what it has reported, once the user's function returns.
        """
        if self._run is not None:
            self._run.close()
            self._run_values = None

    @property
    def values(self) -> Mapping[str, float]:
        """The values at the beginning of the current epoch.

        Raises:
            SchedSearchError: the run of a search has ended, but the framework continues training.
        """
        if self._run is None:
            return self._scheduler.values
        if self._run_values is None:
            raise SchedSearchError("the run has ended: stop the training as well")
        return self._run_values

    @property
    def moving(self) -> tuple[str, ...]:
        """The hyperparameters whose values may change within the current epoch."""
        if isinstance(self._source, LoopRun):
            return self._source.moving
        return self._source.epoch_values.moving

    def apply(self, model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
        """Set the values of the epoch's beginning.

        They are set in the optimizers and in each WeightedLoss of the model; then `on_values` is
        called.

        Raises:
            InputError: the optimizers begin with different values of a key that one value sets.
        """
        self._set(self.values, model, optimizers)

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
        if isinstance(self._source, LoopRun):
            values = self._source.at(step, of)
        else:
            values = self._source.at(step / of)
        if values == self._applied:
            return False
        self._set(values, model, optimizers)
        return True

    def _set(
        self, values: Mapping[str, float], model: nn.Module, optimizers: Iterable[Optimizer]
    ) -> None:
        given = list(optimizers)
        check_optimizers(values, given)
        self._applied = values
        for optimizer in given:
            apply_values(values, optimizer)
        for module in model.modules():
            if isinstance(module, WeightedLoss):
                module.set(values)
        if self._on_values is not None:
            self._on_values(values)

    def record_terms(self, terms: Mapping[str, Any]) -> None:
        """Record the loss terms of a step; `end_epoch` reports their means."""
        for name, term in terms.items():
            self._terms[name].append(as_float(term))

    def end_epoch(self, metrics: Mapping[str, Any]) -> None:
        """End an epoch with these validation metrics.

        Raises:
            InputError: the metric of the objective is missing.
        """
        if self.metric not in metrics:
            raise InputError(
                f"the validation has no metric `{self.metric}`, only "
                f"{', '.join(metrics) or 'none at all'}: log it in every epoch, or pass another "
                "metric to ScheduleCallback"
            )
        metric = as_float(metrics[self.metric])
        terms = {name: math.fsum(values) / len(values) for name, values in self._terms.items()}
        self._terms.clear()
        if isinstance(self._source, LoopRun):
            self._source.report(terms=terms, **{self.metric: metric})
        else:
            self._source.step(metric, terms=terms)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, as plain data that JSON can hold."""
        key = "run" if isinstance(self._source, LoopRun) else "scheduler"
        return {key: self._source.state_dict(), "terms": dict(self._terms)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state in a checkpoint; an empty one has no effect.

        Raises:
            InputError: the state belongs to another plan, or to a scheduler instead of a run.
            SchedSearchError: the state belongs to another run.
        """
        if not state:
            return
        key = "run" if isinstance(self._source, LoopRun) else "scheduler"
        if key not in state:
            raise InputError(
                "the checkpoint has the state of a "
                f"{'scheduler' if key == 'run' else 'run of a search'}, but ScheduleCallback has a "
                f"{'run of a search' if key == 'run' else 'scheduler'}: begin without it"
            )
        self._source.load_state_dict(state[key])
        self._terms = defaultdict(list, state["terms"])

    @property
    def _scheduler(self) -> Scheduler:
        assert isinstance(self._source, Scheduler)
        return self._source
