"""The engine for the user's training loop: `for epoch, hp in run`.

The user's function keeps control of its training. It runs in a separate thread, one epoch at a
time, so that the rest of the program sees an engine like any other.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from schedsearch.engines.base import Engine, EpochResult, Snapshot
from schedsearch.engines.loop_thread import Handover, LoopThread
from schedsearch.engines.precision import DEFAULT_PRECISION, PrecisionSettings, pack_float64
from schedsearch.engines.rng_state import RngState
from schedsearch.epoch_values import EpochValues, within_epoch_key_of
from schedsearch.errors import SchedSearchError
from schedsearch.metric_names import metric_on_test
from schedsearch.scheduler import as_float
from schedsearch.task import TrainFunction


@dataclass
class _LoopState:
    """The state of a loop's run that the engine needs.

    Attributes:
        epoch: the number of epochs trained.
        restored: the checkpoint to resume from.
        is_resumed: whether there is one; it may be None.
        has_read_restored: whether the loop has read `restored`.
        rng_state: of the global generators, to be set before the first epoch.
        checkpoint: the last one that the loop gave, with the epoch of it.
        test_metrics: what the loop gave to `run.test`.
    """

    epoch: int = 0
    restored: Any = None
    is_resumed: bool = False
    has_read_restored: bool = False
    rng_state: Mapping[str, Any] | None = None
    checkpoint: tuple[int, Any] | None = None
    test_metrics: dict[str, float] = field(default_factory=dict)

    @classmethod
    def resumed(cls, snapshot: Snapshot) -> _LoopState:
        """Return the state of a run that is resumed from a snapshot."""
        restored = copy.deepcopy(snapshot.extra["state"])
        return cls(
            epoch=snapshot.epoch,
            restored=restored,
            is_resumed=True,
            rng_state=snapshot.extra.get("generators"),
            checkpoint=(snapshot.epoch - 1, restored),
        )

    def check_restored(self) -> None:
        """Raise if the loop is to resume from a checkpoint, but has not read it."""
        if self.is_resumed and not self.has_read_restored:
            raise SchedSearchError(
                f"the loop must resume after epoch {self.epoch - 1}, but has not read "
                "run.restored: if it is not None, load the state from it before the first epoch"
            )

    def snapshot(self, rng_state: RngState) -> Snapshot | None:
        """Return a copy of the checkpoint of the last epoch; None if the loop gave none."""
        if self.checkpoint is None or self.checkpoint[0] != self.epoch - 1:
            return None
        # "generators" is the key in stored checkpoints.
        extra = {"state": copy.deepcopy(self.checkpoint[1]), "generators": rng_state.to_dict()}
        return Snapshot(self.epoch, {}, extra=extra, resumable=self.has_read_restored)


class LoopRun:
    """A run as the user's training loop sees it.

    Attributes:
        seed: for all random numbers of the loop.
        horizon: the number of epochs of a full training.
    """

    def __init__(
        self,
        seed: int,
        horizon: int,
        state: _LoopState,
        handover: Handover,
        defaults: Mapping[str, float],
    ) -> None:
        self.seed = seed
        self.horizon = horizon
        self._state, self._handover, self._defaults = state, handover, defaults
        self._epoch_values: Mapping[str, float] = {}
        self._in_epoch = False
        self._over = False
        # Whether the engine waits for the result of the present epoch.
        self._is_awaited = False
        self._reported: EpochResult | None = None

    @property
    def restored(self) -> Any:
        """The state that `checkpoint` got in the epoch to resume after; None in a new run.

        Only loops that read it are ever resumed.
        """
        self._state.has_read_restored = True
        return self._state.restored

    def __iter__(self) -> Generator[tuple[int, dict[str, float]]]:
        """Yield each epoch and its scheduled values, until the run is over.

        The first epoch is 0, or the one after that of `restored`. A second loop over the run
        continues where the first one was left by `break`; an epoch that was left before its report
        begins again. If the function returns instead, the run ends as stopped.

        Raises:
            SchedSearchError: the loop did not call `report` in an epoch, or is to resume from a
                checkpoint that it has not read.
        """
        state = self._state
        if self._reported is not None:
            self._finish_epoch()
        while self._is_awaited or self._wait_for_values():
            state.check_restored()
            if state.rng_state is not None:
                # Whatever the loop drew during its setup, it continues as if never interrupted.
                RngState.set_global(state.rng_state)
                state.rng_state = None
            self._in_epoch = self._is_awaited = True
            try:
                yield state.epoch, self.values
            finally:
                self._in_epoch = False
            self._finish_epoch()

    def _finish_epoch(self) -> None:
        """Pass the result of the epoch to the engine."""
        self._handover.finish(self._take_result())

    def _take_result(self) -> EpochResult:
        result = self._reported
        if result is None:
            epoch = self._state.epoch
            raise SchedSearchError(f"epoch {epoch} ended without a call of run.report()")
        self._reported, self._is_awaited = None, False
        self._state.epoch += 1
        return result

    def take_last_result(self) -> EpochResult:
        """Return the result of the epoch in which the loop ended by itself, marked as stopped.

        Raises:
            SchedSearchError: the loop has reported no epoch.
        """
        if self._reported is not None:
            return replace(self._take_result(), stopped=True)
        if self._state.epoch > 0:
            return EpochResult({}, {}, stopped=True)
        raise SchedSearchError(
            "the training loop ended before its first call of run.report(): it may stop before "
            f"the horizon ({self.horizon} epochs), but must report at least one epoch"
        )

    def _wait_for_values(self) -> bool:
        """Wait for the values of the next epoch; return False if the run is over."""
        if not self._over:
            values = self._handover.wait_for_values()
            self._over = values is None
            self._epoch_values = values or {}
        return not self._over

    @property
    def values(self) -> dict[str, float]:
        """The scheduled values at the beginning of the epoch, by hyperparameter."""
        return {**self._defaults, **self._epoch_values}

    @property
    def moving(self) -> tuple[str, ...]:
        """The hyperparameters whose values may change within the epoch."""
        values = self._epoch_values
        return values.moving if isinstance(values, EpochValues) else ()

    def at(self, step: int, of: int) -> dict[str, float]:
        """Return the values in force at an optimizer step of the epoch.

        Hyperparameters at the interval "step" have the value of the time epoch + step / of; the
        others keep that of the beginning of the epoch.

        Args:
            step: counted from 0 in the epoch.
            of: the number of optimizer steps of the epoch.

        Raises:
            SchedSearchError: called outside an epoch, or the step is not from 0 to `of` - 1.
        """
        if not self._in_epoch:
            raise SchedSearchError("run.at() was called outside `for epoch, hp in run`")
        if not 0 <= step < of:
            raise SchedSearchError(
                f"run.at({step}, of={of}): the step must be from 0 to {of - 1}, counted from the "
                "beginning of the epoch"
            )
        if not isinstance(self._epoch_values, EpochValues):
            return self.values
        return {**self._defaults, **self._epoch_values.at(step / of)}

    def report(self, *, terms: Mapping[str, Any] | None = None, **metrics: Any) -> None:
        """Report the validation metrics and the mean loss terms of an epoch, once per epoch.

        Raises:
            SchedSearchError: called outside an epoch, twice in one, without a metric, or with a
                value that is not a number.
        """
        if not self._in_epoch:
            raise SchedSearchError("run.report() was called outside `for epoch, hp in run`")
        if self._reported is not None:
            raise SchedSearchError(f"run.report() was called twice in epoch {self._state.epoch}")
        if not metrics:
            raise SchedSearchError("run.report() needs a validation metric: run.report(val_loss=…)")
        self._reported = EpochResult(_finite_or_nan(metrics), _as_floats(terms or {}))

    def checkpoint(self, state: Any) -> None:
        """Offer the state that the loop needs to resume after this epoch; copied only if needed."""
        self._state.checkpoint = (self._state.epoch, state)

    def test(self, **metrics: Any) -> None:
        """Report the metrics of the trained model on the test split, after the last epoch.

        `confirm` compares the metric of the objective. The prefixes val, valid, validation, eval
        and test of names, with _ or /, do not count: for the objective `val_loss`, `loss` and
        `test_loss` are the same as `val_loss`.

        Raises:
            SchedSearchError: two names are the same but for these prefixes, or a value is not a
                number.
        """
        found: dict[str, float] = {}
        for name, value in _finite_or_nan(metrics).items():
            if metric_on_test(name) in found:
                raise SchedSearchError(
                    f"run.test() got {', '.join(metrics)}, but two of these names mean "
                    f"{metric_on_test(name)}: the prefixes val, valid, validation, eval and test "
                    "do not count"
                )
            found[metric_on_test(name)] = value
        self._state.test_metrics = found


@dataclass(frozen=True)
class _Lane:
    """A run with its state, and the thread of its loop."""

    run: LoopRun
    state: _LoopState
    thread: LoopThread


class LoopEngine:
    """Trains with the user's function `train(run)`, one epoch at a time.

    Args:
        train: the function; `train.hyperparameters` are the names it reads, with their defaults.
        horizon: the number of epochs of a full training, which the loop sees as `run.horizon`.
        precision: of the loop's thread; the loop itself has to cast to bfloat16.

    Attributes:
        tested: the metrics, named `test_NAME`, that the last released loop measured; None if it
            raised.
    """

    lanes = 1

    def __init__(
        self,
        train: TrainFunction,
        *,
        horizon: int,
        precision: PrecisionSettings = DEFAULT_PRECISION,
    ) -> None:
        self.train = train
        self.horizon = horizon
        self.precision = precision
        self.tested: tuple[str, ...] | None = None
        self._lane: _Lane | None = None

    def fill(self, lane: int, seed: int, snapshot: Snapshot | None = None) -> None:
        """Start a run from its seed, or from a snapshot with a checkpoint of the loop."""
        self.release(lane)
        state = _LoopState() if snapshot is None else _LoopState.resumed(snapshot)
        handover = Handover()
        run = LoopRun(seed, self.horizon, state, handover, self.train.hyperparameters)
        thread = LoopThread(
            partial(self.train, run), handover=handover, seed=seed, precision=self.precision
        )
        self._lane = _Lane(run, state, thread)

    def train_epoch(
        self, values: Sequence[Mapping[str, float] | None]
    ) -> list[EpochResult | Exception | None]:
        """Let the loop train one epoch; see Engine."""
        [lane_values] = values
        if lane_values is None:
            return [None]
        try:
            return [self._train_epoch(lane_values)]
        except Exception as error:
            return [error]

    def _train_epoch(self, values: Mapping[str, float]) -> EpochResult:
        lane = self._filled()
        outcome = lane.thread.train_epoch(values)
        if isinstance(outcome, EpochResult):
            return outcome
        if outcome.error is not None:
            raise outcome.error
        return lane.run.take_last_result()

    def test(self, lane: int) -> dict[str, float]:
        """End the loop and return the metrics it gave to `run.test`; none if it never called it.

        Raises what the user's function raises after its loop.
        """
        filled = self._filled()
        if error := filled.thread.end():
            raise error
        filled.state.check_restored()
        return dict(filled.state.test_metrics)

    def snapshot(self, lane: int) -> Snapshot | None:
        """Return a copy of the checkpoint that the loop gave in the last epoch, if it did."""
        filled = self._filled()
        return filled.state.snapshot(filled.thread.rng_state)

    def release(self, lane: int) -> None:
        """End the loop, wait until its function returns, and ignore what that raises."""
        if self._lane is not None and self._lane.thread.is_started:
            raised = self._lane.thread.end()
            self.tested = None if raised else tuple(self._lane.state.test_metrics)
        self._lane = None

    def key(self, values: Mapping[str, float], seed: int) -> bytes:
        """Return the values, defaults included, as float64, and how they move within the epoch."""
        return pack_float64({**self.train.hyperparameters, **values}) + within_epoch_key_of(values)

    def _filled(self) -> _Lane:
        if self._lane is None:
            raise SchedSearchError("the lane is idle: fill it first")
        return self._lane


def tested_metrics(engine: Engine) -> tuple[str, ...] | None:
    """Return the metrics that the last released loop measured on the test split, as `test_NAME`.

    None if it raised, and for an engine of tasks.
    """
    return engine.tested if isinstance(engine, LoopEngine) else None


def _finite_or_nan(given: Mapping[str, Any]) -> dict[str, float]:
    return {name: v if math.isfinite(v) else math.nan for name, v in _as_floats(given).items()}


def _as_floats(given: Mapping[str, Any]) -> dict[str, float]:
    numbers = {}
    for name, value in given.items():
        try:
            numbers[name] = as_float(value)
        except (TypeError, ValueError, RuntimeError):
            raise SchedSearchError(
                f"the value of `{name}` is {value!r}, but must be a number"
            ) from None
    return numbers


#: The name of `LoopRun` in version 0.1; training loops written for it import this.
Run = LoopRun
