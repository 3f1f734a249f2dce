"""The engine for the user's training loop: `for epoch, hp in run`.

The user's function keeps control of its training. It runs in a separate thread, one epoch at a
time, so that the rest of the program sees an engine like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from schedsearch.engines.base import Engine, EpochResult, Resumed, Snapshot
from schedsearch.engines.loop_context import LoopContext
from schedsearch.engines.loop_run import LoopRun
from schedsearch.engines.loop_state import LoopState
from schedsearch.engines.loop_thread import Handover, LoopEnded, LoopThread
from schedsearch.engines.precision import DEFAULT_PRECISION, PrecisionSettings, pack_float64
from schedsearch.epoch_values import within_epoch_key_of
from schedsearch.errors import SchedSearchError
from schedsearch.task import TrainFunction, function_arguments

__all__ = [
    "LoopContext",
    "LoopEngine",
    "LoopRun",
    "Run",
    "close_engine",
    "fill_lane",
    "tested_metrics",
]


@dataclass(frozen=True)
class _Lane:
    """A run with its state, and the thread of its loop."""

    run: LoopRun
    state: LoopState
    thread: LoopThread


class LoopEngine:
    """Trains with the user's function `train(run)`, one epoch at a time.

    Args:
        train: the function; `train.hyperparameters` are the names it reads, with their defaults.
        horizon: the number of epochs of a full training, which the loop sees as `run.horizon`.
        precision: of the loop's thread; the loop itself has to cast to bfloat16.
        arguments: of the function, beside the defaults in `train.arguments`.
        while_waiting: called about once a second while the loop trains an epoch; what it raises
            ends the epoch.

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
        arguments: Mapping[str, Any] = MappingProxyType({}),
        while_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self.train = train
        self._while_waiting = while_waiting
        self.arguments = MappingProxyType({**function_arguments(train), **arguments})
        self.horizon = horizon
        self.precision = precision
        self.tested: tuple[str, ...] | None = None
        self.raised: Exception | None = None
        self._lane: _Lane | None = None

    def fill(
        self,
        lane: int,
        seed: int,
        snapshot: Snapshot | None = None,
        context: LoopContext | None = None,
    ) -> None:
        """Start a run from its seed, or from a snapshot with a checkpoint of the loop."""
        self.release(lane)
        context = context or LoopContext()
        state = LoopState() if snapshot is None else LoopState.resumed(snapshot)
        state.results.extend(context.results)
        handover, defaults = Handover(self._while_waiting), self.train.hyperparameters
        run = LoopRun(seed, self.horizon, state, handover, defaults, context, self.arguments)
        thread = LoopThread(
            partial(self.train, run), handover=handover, seed=seed, precision=self.precision
        )
        self._lane = _Lane(run, state, thread)

    def train_epoch(
        self, values: Sequence[Mapping[str, float] | None]
    ) -> Sequence[EpochResult | Resumed | Exception | None]:
        """Let the loop train one epoch; see Engine."""
        [lane_values] = values
        if lane_values is None:
            return [None]
        try:
            return [self._train_epoch(lane_values)]
        except Exception as error:
            return [error]

    def _train_epoch(self, values: Mapping[str, float]) -> EpochResult | Resumed:
        lane = self._filled()
        outcome = lane.thread.train_epoch(values)
        if not isinstance(outcome, LoopEnded):
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

    @property
    def can_resume(self) -> bool:
        """Whether training can continue from the last checkpoint of the loop."""
        return self._filled().state.is_resumable

    @property
    def offers_model(self) -> bool:
        """Whether the loop gave a checkpoint in the last epoch."""
        return self._filled().state.is_recent

    @property
    def unread(self) -> tuple[str, ...]:
        """The hyperparameters of the plan that the loop has not read so far."""
        return self._filled().run.unread

    @property
    def reduction(self) -> str | None:
        """How the last report of the loop combines the numbers of several processes."""
        return self._filled().run.reduction

    def replace_last_result(self, result: EpochResult) -> None:
        """Replace the result of the last epoch, for the state of the run, by that of all ranks."""
        self._filled().state.results[-1] = result

    def generators(self) -> dict[str, Any]:
        """Return the state of the loop's random generators, as in a snapshot."""
        return self._filled().thread.rng_state.to_dict()

    def release(self, lane: int) -> None:
        """End the loop, wait until its function returns, and keep what that raises in `raised`."""
        if self._lane is not None:
            if self._lane.thread.is_started:
                self.raised = self._lane.thread.end()
                self.tested = None if self.raised else tuple(self._lane.state.test_metrics)
            self._lane.run.remove_temporary_directory()
        self._lane = None

    def close(self) -> None:
        """Free what other processes keep for this engine: nothing, unless it leads some."""

    def key(self, values: Mapping[str, float], seed: int) -> bytes:
        """Return the values, defaults included, as float64, and how they move within the epoch."""
        return pack_float64({**self.train.hyperparameters, **values}) + within_epoch_key_of(values)

    def _filled(self) -> _Lane:
        if self._lane is None:
            raise SchedSearchError("the lane is idle: fill it first")
        return self._lane


def fill_lane(
    engine: Engine, lane: int, seed: int, snapshot: Snapshot | None, context: LoopContext
) -> None:
    """Start a run in a lane of any engine; a training loop also gets its context."""
    if isinstance(engine, LoopEngine):
        engine.fill(lane, seed, snapshot, context)
    else:
        engine.fill(lane, seed, snapshot)


def close_engine(engine: Engine) -> None:
    """Free what other processes keep for an engine that is not used any more."""
    if isinstance(engine, LoopEngine):
        engine.close()


def tested_metrics(engine: Engine) -> tuple[str, ...] | None:
    """Return the metrics that the last released loop measured on the test split, as `test_NAME`.

    None if it raised, and for an engine of tasks.
    """
    return engine.tested if isinstance(engine, LoopEngine) else None


def error_after_epochs(engine: Engine) -> Exception | None:
    """Return what the last released loop raised after its last epoch; None for other engines."""
    return engine.raised if isinstance(engine, LoopEngine) else None


def can_resume(engine: Engine) -> bool:
    """Return whether training can continue from the last checkpoint; without copying it."""
    return not isinstance(engine, LoopEngine) or engine.can_resume


def offers_model(engine: Engine) -> bool:
    """Return whether there is a model of the last epoch: a training loop may offer none."""
    return not isinstance(engine, LoopEngine) or engine.offers_model


def unread_values(engine: Engine) -> tuple[str, ...]:
    """Return the hyperparameters that a training loop has not read; none for other engines."""
    return engine.unread if isinstance(engine, LoopEngine) else ()


#: The name of `LoopRun` in version 0.1; training loops written for it import this.
Run = LoopRun
