"""What the callbacks of all frameworks share: a plan's epochs, one after the other."""

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
from schedsearch.scheduler import Scheduler, apply_values, as_float

OnValues = Callable[[Mapping[str, float]], object]


class ScheduleDriver:
    """The epochs of a training: which values are in force in each, and what each gave.

    Args:
        source: the scheduler of a config, or the run of a search, which ends when it is pruned.
        metric: what the framework calls the validation metric that is the objective.
        on_values: called with the values before each epoch, for those that no optimizer and no
            WeightedLoss within the model takes.
    """

    def __init__(
        self, source: Scheduler | LoopRun, metric: str, on_values: OnValues | None = None
    ) -> None:
        self.metric = metric
        self._source = source
        self._run = iter(source) if isinstance(source, LoopRun) else None
        self._given: Mapping[str, float] | None = None
        self._on_values = on_values
        self._terms: defaultdict[str, list[float]] = defaultdict(list)

    def next_epoch(self) -> bool:
        """Go to the next epoch; False: a search wants no more epochs of its run."""
        if self._run is not None:
            epoch = next(self._run, None)
            self._given = None if epoch is None else epoch[1]
            return self._given is not None
        return True

    @property
    def values(self) -> Mapping[str, float]:
        """The values in force in the epoch.

        Raises:
            SchedSearchError: the run of a search is over, but the framework trains on.
        """
        if self._run is None:
            return self._scheduler.values
        if self._given is None:
            raise SchedSearchError("the run is over: the training must end with it")
        return self._given

    def apply(self, model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
        """Set the values on the optimizers, on each WeightedLoss of a model, and by `on_values`."""
        values = self.values
        for optimizer in optimizers:
            apply_values(values, optimizer)
        for module in model.modules():
            if isinstance(module, WeightedLoss):
                module.set(values)
        if self._on_values is not None:
            self._on_values(values)

    def record_terms(self, terms: Mapping[str, Any]) -> None:
        """Take the loss terms of a step; an epoch gives their means."""
        for name, term in terms.items():
            self._terms[name].append(as_float(term))

    def end_epoch(self, metrics: Mapping[str, Any]) -> None:
        """End an epoch that gave these validation metrics.

        Raises:
            InputError: the objective is not among them.
        """
        if self.metric not in metrics:
            raise InputError(
                f"the validation gave no `{self.metric}`, but {', '.join(metrics) or 'nothing'}: "
                "log it in every epoch, or name another metric"
            )
        metric = as_float(metrics[self.metric])
        terms = {name: math.fsum(values) / len(values) for name, values in self._terms.items()}
        self._terms.clear()
        if isinstance(self._source, LoopRun):
            self._source.report(terms=terms, **{self.metric: metric})
        else:
            self._source.step(metric, terms=terms)

    def state_dict(self) -> dict[str, Any]:
        """Return what goes into the framework's checkpoint: nothing of a run, which begins anew."""
        if isinstance(self._source, LoopRun):
            return {}
        return {"scheduler": self._source.state_dict(), "terms": dict(self._terms)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            InputError: its state is of another plan.
        """
        if state:
            self._scheduler.load_state_dict(state["scheduler"])
            self._terms = defaultdict(list, state["terms"])

    @property
    def _scheduler(self) -> Scheduler:
        assert isinstance(self._source, Scheduler)
        return self._source
