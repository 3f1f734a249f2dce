"""Where the values of a training come from: the scheduler of a config, or the run of a search."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from schedsearch.engines.loop import LoopRun
from schedsearch.errors import SchedSearchError, TrainingRefusedError
from schedsearch.scheduler import Scheduler


class ValueSource(ABC):
    """The values of a training, epoch by epoch.

    Attributes:
        horizon: the number of epochs of a full training.
        is_search: whether the values come from the run of a search.
        processes: how many processes train together.
        key: of its state in a checkpoint.
    """

    horizon: int
    is_search: bool
    processes: int = 1
    key: str

    @property
    @abstractmethod
    def epoch(self) -> int:
        """The number of epochs of the plan that have ended."""

    @property
    @abstractmethod
    def in_epoch(self) -> bool:
        """Whether there are values."""

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """Whether the epoch that has ended last was that of the horizon."""

    @property
    @abstractmethod
    def is_open_loop(self) -> bool:
        """Whether the values do not depend on the results of epochs; a run may depend on them."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The hyperparameters that have values, those with default values included."""

    @property
    @abstractmethod
    def planned(self) -> tuple[str, ...]:
        """The hyperparameters whose values come from the plan."""

    @property
    @abstractmethod
    def moving(self) -> Collection[str]:
        """The hyperparameters whose values may change within the current epoch."""

    @property
    @abstractmethod
    def values(self) -> Mapping[str, float]:
        """The values at the beginning of the current epoch."""

    @abstractmethod
    def at(self, step: int, of: int) -> Mapping[str, float]:
        """Return the values at an optimizer step of the current epoch."""

    @abstractmethod
    def next_epoch(self) -> bool:
        """Go to the next epoch; return False if there is none."""

    @abstractmethod
    def end_epoch(
        self, name: str, metric: float, terms: Mapping[str, float], model: Mapping[str, Any] | None
    ) -> None:
        """End the epoch with its metric of this name, its loss terms and perhaps its model."""

    @abstractmethod
    def stop(self) -> None:
        """Give no further epoch."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the state, by `key`, with what a checkpoint needs beside it."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what was saved under `key`."""

    @property
    def offered_model(self) -> Mapping[str, Any] | None:
        """The model of the best epoch, which is to be tested without any training; else None."""
        return None

    def folder(self) -> Path:
        """Return the folder of the run of a search.

        Raises:
            SchedSearchError: there is none.
        """
        raise SchedSearchError("a scheduler has no folder")


class SchedulerValues(ValueSource):
    """The values of a scheduler, which always has some."""

    is_search = False
    key = "scheduler"

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.horizon = scheduler.horizon

    @property
    def epoch(self) -> int:
        return self._scheduler.epoch

    @property
    def in_epoch(self) -> bool:
        return True

    @property
    def is_complete(self) -> bool:
        return self.epoch >= self.horizon

    @property
    def is_open_loop(self) -> bool:
        return all(s.is_open_loop for s in self._scheduler.plan.schedules.values())

    @property
    def names(self) -> tuple[str, ...]:
        return self._scheduler.plan.names

    @property
    def planned(self) -> tuple[str, ...]:
        return self.names

    @property
    def moving(self) -> Collection[str]:
        return self._scheduler.epoch_values.moving

    @property
    def values(self) -> Mapping[str, float]:
        return self._scheduler.at(0)

    def at(self, step: int, of: int) -> Mapping[str, float]:
        return self._scheduler.at(step / of)

    def next_epoch(self) -> bool:
        return self.epoch < self.horizon

    def end_epoch(
        self, name: str, metric: float, terms: Mapping[str, float], model: Mapping[str, Any] | None
    ) -> None:
        self._scheduler.step(metric, terms=terms)

    def stop(self) -> None:
        """Do nothing: a scheduler may be used again, from a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        return {self.key: self._scheduler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._scheduler.load_state_dict(state)


class RunValues(ValueSource):
    """The values of the run of a search, which gives them from epoch to epoch."""

    is_search = True
    key = "run"

    def __init__(self, run: LoopRun) -> None:
        self._run, self._epochs = run, iter(run)
        self.horizon, self.processes = run.horizon, run.processes
        self._epoch = 0
        self._values: Mapping[str, float] | None = None

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def in_epoch(self) -> bool:
        return self._values is not None

    @property
    def is_complete(self) -> bool:
        return self.epoch + 1 >= self.horizon

    @property
    def is_open_loop(self) -> bool:
        return False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._run.values)

    @property
    def planned(self) -> tuple[str, ...]:
        return self._run.scheduled

    @property
    def moving(self) -> Collection[str]:
        return self._run.moving

    @property
    def values(self) -> Mapping[str, float]:
        if self._values is None:
            raise SchedSearchError("the run has ended: stop the training as well")
        return self._values

    def at(self, step: int, of: int) -> Mapping[str, float]:
        return self._run.at(step, of)

    def next_epoch(self) -> bool:
        epoch = next(self._epochs, None)
        self._values = None
        if epoch is not None:
            self._epoch, values = epoch
            self._values = dict(values)  # for the run they are read: the driver checks the rest
        return self.in_epoch

    def end_epoch(
        self, name: str, metric: float, terms: Mapping[str, float], model: Mapping[str, Any] | None
    ) -> None:
        reduce: Literal["mean"] | None = "mean" if self.processes > 1 else None
        self._run.report(terms=terms, reduce=reduce, **{name: metric})
        if model is not None:
            self._run.offer_model(model)

    def stop(self) -> None:
        """Let the run end with what it has reported, once the user's function returns."""
        self._epochs.close()
        self._values = None

    def state_dict(self) -> dict[str, Any]:
        folder, state = self._run.used_directory, {self.key: self._run.state_dict()}
        # Frameworks save absolute paths.
        return state if folder is None else state | {"folder": os.path.realpath(folder)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._run.load_state_dict(state)
        self._epoch = state["epoch"]

    @property
    def offered_model(self) -> Mapping[str, Any] | None:
        return self._run.offered_model

    def folder(self) -> Path:
        return self._run.directory


def value_source(source: Scheduler | LoopRun) -> ValueSource:
    """Return the values of a scheduler or of a run.

    Raises:
        InputError: it is neither.
    """
    if isinstance(source, Scheduler):
        return SchedulerValues(source)
    if isinstance(source, LoopRun):
        return RunValues(source)
    raise TrainingRefusedError(
        f"ScheduleCallback got {type(source).__name__}, but needs the scheduler of a "
        "config, as in schedsearch.load(...).scheduler(), or the run of a search"
    )
