"""The engine for a training loop of the user's own: `for epoch, hp in run`.

The user's function keeps control, in a thread of its own, and is resumed one epoch at a time. The
two threads hand over to each other and never run at once.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from schedsearch.engines.base import EpochResult, Snapshot
from schedsearch.engines.precision import DEFAULT_PRECISION, PrecisionSettings, pack_float64
from schedsearch.engines.rng_state import RngState
from schedsearch.errors import SchedSearchError
from schedsearch.scheduler import as_float
from schedsearch.task import TrainFunction

#: Seconds after which a thread that waits for the other looks up.
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class _Ended:
    """The user's function has returned, or raised."""

    error: Exception | None


class LoopRun:
    """What a training loop of the user's own sees of its run.

    Attributes:
        seed: seeds whatever the loop draws.
        horizon: the number of epochs of a full training.
    """

    def __init__(self, seed: int, horizon: int, snapshot: Snapshot | None) -> None:
        self.seed = seed
        self.horizon = horizon
        self._restored = None if snapshot is None else copy.deepcopy(snapshot.extra["state"])
        self._goes_on, self._asked = snapshot is not None, False
        self._epoch = 0 if snapshot is None else snapshot.epoch
        self._in_epoch = False
        self._over = False
        self._drawn = None if snapshot is None else snapshot.extra.get("generators")
        self._reported: EpochResult | None = None
        self._checkpoint: tuple[int, Any] | None = (
            None if snapshot is None else (snapshot.epoch - 1, self._restored)
        )
        self._tested: dict[str, float] = {}
        self._orders: SimpleQueue[dict[str, float] | None] = SimpleQueue()
        self._answers: SimpleQueue[EpochResult | _Ended] = SimpleQueue()

    @property
    def restored(self) -> Any:
        """What `checkpoint` was given in the epoch to go on from, or None to start anew.

        Only a loop that asks for it is ever taken to one of its checkpoints.
        """
        self._asked = True
        return self._restored

    def __iter__(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield each epoch, with the values in force, until the run is over.

        The first is 0, or the one after that of `restored`.

        Raises:
            SchedSearchError: the run goes on from a checkpoint, and the loop did not ask for it.
        """
        while (values := self._next_order()) is not None:
            self._check_asked()
            if self._drawn is not None:
                # Whatever the loop drew to set itself up, it goes on as if never interrupted.
                RngState.restore(self._drawn)
                self._drawn = None
            self._in_epoch, self._reported = True, None
            yield self._epoch, values
            if self._reported is None:
                raise SchedSearchError(f"epoch {self._epoch} ended without a call of run.report()")
            self._in_epoch = False
            self._epoch += 1
            self._answers.put(self._reported)

    def _check_asked(self) -> None:
        """Refuse to take a loop that has not loaded what it was to go on from for one that has."""
        if self._goes_on and not self._asked:
            raise SchedSearchError(
                f"the loop is to go on after {self._epoch} epochs, but has not read run.restored: "
                "load what it holds before the first epoch, where it is not None"
            )

    def _next_order(self) -> dict[str, float] | None:
        if self._over:
            return None
        values = self._orders.get()
        self._over = values is None
        return values

    def report(self, *, terms: Mapping[str, Any] | None = None, **metrics: Any) -> None:
        """Report an epoch's validation metrics, and the means of its loss terms: once an epoch.

        Raises:
            SchedSearchError: outside an epoch, twice in one, without a metric, or with a value
                that is no number.
        """
        if not self._in_epoch:
            raise SchedSearchError("run.report() was called outside `for epoch, hp in run`")
        if self._reported is not None:
            raise SchedSearchError(f"run.report() was called twice in epoch {self._epoch}")
        if not metrics:
            raise SchedSearchError("run.report() needs a validation metric: run.report(val_loss=…)")
        self._reported = EpochResult(_finite_or_nan(metrics), _numbers(terms or {}))

    def checkpoint(self, state: Any) -> None:
        """Offer what the loop needs to go on after this epoch; it is copied only if asked for."""
        self._checkpoint = (self._epoch, state)

    def test(self, **metrics: Any) -> None:
        """Report the metrics of the trained model on the test split, after the last epoch."""
        named = _finite_or_nan(metrics)
        self._tested = {f"test_{name.removeprefix('test_')}": v for name, v in named.items()}


@dataclass
class _Lane:
    """A run and the thread that its loop lives in, which starts when it is first needed."""

    run: LoopRun
    train: TrainFunction
    precision: PrecisionSettings
    ended: _Ended | None = None
    thread: threading.Thread = field(init=False)
    generators: RngState = field(init=False)

    def __post_init__(self) -> None:
        self.generators = RngState(self.run.seed)
        # A daemon: a loop that hangs must not keep the process from ending.
        self.thread = threading.Thread(target=self._work, name="train", daemon=True)

    def _work(self) -> None:
        try:
            with self.precision.apply():
                self.train(self.run)
            self.run._answers.put(_Ended(None))
        except Exception as error:
            self.run._answers.put(_Ended(error))
        except BaseException as error:
            # sys.exit() in a loop ends its run, not the worker.
            self.run._answers.put(_Ended(SchedSearchError(f"the training loop raised {error!r}")))

    def train_epoch(self, values: dict[str, float]) -> EpochResult:
        if self.ended is None:
            answer = self._go_on(values)
            if isinstance(answer, EpochResult):
                return answer
            self.ended = answer
            self.thread.join()
        raise self.ended.error or SchedSearchError(
            f"the training loop ended by itself in epoch {self.run._epoch} of {self.run.horizon}: "
            "it must go on until `run` ends"
        )

    def _go_on(self, values: dict[str, float] | None) -> EpochResult | _Ended:
        """Let the loop run, and wait for the end of its epoch; None ends it."""
        with self.generators.in_force():
            self.run._orders.put(values)
            if self.thread.ident is None:
                self.thread.start()
            return self._answer()

    def _answer(self) -> EpochResult | _Ended:
        while True:
            # Not for ever: of two signals the second may reach another thread, and Python hands it
            # to this one only when this one runs.
            with suppress(Empty):
                return self.run._answers.get(timeout=_POLL_SECONDS)

    def finish(self) -> Exception | None:
        """Let the loop end, and then the function; return what it raised."""
        if self.ended is None:
            answer = self._go_on(None)
            self.ended = answer if isinstance(answer, _Ended) else _Ended(None)
            self.thread.join()
        return self.ended.error


class LoopEngine:
    """Trains with the user's own function `train(run)`, one epoch at a time.

    Args:
        train: the function; `train.hyperparameters` are the names it reads, with their defaults.
        horizon: the number of epochs of a full training, which the loop sees as `run.horizon`.
        arithmetic: what the loop's thread computes with; a loop casts to bfloat16 itself.
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
        self._lane: _Lane | None = None

    def fill(self, lane: int, seed: int, snapshot: Snapshot | None = None) -> None:
        """Start a run from its seed, or from a snapshot that the loop's checkpoint gave."""
        self.release(lane)
        self._lane = _Lane(LoopRun(seed, self.horizon, snapshot), self.train, self.precision)

    def train_epoch(
        self, values: Sequence[Mapping[str, float] | None]
    ) -> list[EpochResult | Exception | None]:
        """Let the loop go on for one epoch; see Engine."""
        [in_force] = values
        if in_force is None:
            return [None]
        try:
            return [self._running().train_epoch({**self.train.hyperparameters, **in_force})]
        except Exception as error:
            return [error]

    def test(self, lane: int) -> dict[str, float]:
        """End the loop and return what it gave to `run.test`: nothing if it never called that.

        Raises what the user's function raises after its loop.
        """
        running = self._running()
        if error := running.finish():
            raise error
        running.run._check_asked()
        return dict(running.run._tested)

    def snapshot(self, lane: int) -> Snapshot | None:
        """Return a copy of what the loop gave to `run.checkpoint` in the last epoch, if it did."""
        run = self._running().run
        if run._checkpoint is None or run._checkpoint[0] != run._epoch - 1:
            return None
        state = copy.deepcopy(run._checkpoint[1])
        drawn = self._running().generators.state()
        extra = {"state": state, "generators": drawn}
        return Snapshot(run._epoch, {}, extra=extra, resumable=run._asked)

    def release(self, lane: int) -> None:
        """End the loop, wait for its function, and drop whatever it still raises."""
        if self._lane is not None and self._lane.thread.ident is not None:
            self._lane.finish()
        self._lane = None

    def key(self, values: Mapping[str, float]) -> bytes:
        """Return the values, defaults filled in, as float64."""
        return pack_float64({**self.train.hyperparameters, **values})

    def _running(self) -> _Lane:
        if self._lane is None:
            raise SchedSearchError("the lane is idle: fill it first")
        return self._lane


def _finite_or_nan(given: Mapping[str, Any]) -> dict[str, float]:
    return {name: v if math.isfinite(v) else math.nan for name, v in _numbers(given).items()}


def _numbers(given: Mapping[str, Any]) -> dict[str, float]:
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
