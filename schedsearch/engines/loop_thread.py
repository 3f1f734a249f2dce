"""The thread of a training loop, which runs one epoch whenever the engine asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from schedsearch.engines.base import EpochResult, Resumed
from schedsearch.engines.precision import PrecisionSettings
from schedsearch.engines.rng_state import RngState
from schedsearch.errors import SchedSearchError

#: Seconds between two checks for signals while the engine waits for an epoch.
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class LoopEnded:
    """The training loop's function has returned, or raised."""

    error: Exception | None


#: What a loop passes to the engine.
Outcome: TypeAlias = EpochResult | Resumed | LoopEnded


class Handover:
    """Passes control between the engine and the thread of a loop: the two never run at once.

    Args:
        while_waiting: called about once a second while the engine waits; what it raises ends that.
    """

    def __init__(self, while_waiting: Callable[[], None] = lambda: None) -> None:
        self._while_waiting = while_waiting
        self._values: SimpleQueue[Mapping[str, float] | None] = SimpleQueue()
        self._outcomes: SimpleQueue[Outcome] = SimpleQueue()

    def wait_for_values(self) -> Mapping[str, float] | None:
        """Wait in the loop's thread for the values of the next epoch; None ends the loop."""
        return self._values.get()

    def finish(self, outcome: Outcome) -> None:
        """Pass the outcome of an epoch, or of the loop, to the engine."""
        self._outcomes.put(outcome)

    def resume(self, values: Mapping[str, float] | None) -> None:
        """Let the loop train an epoch with these values; None ends it."""
        self._values.put(values)

    def wait_for_outcome(self) -> Outcome:
        """Wait in the engine's thread until the epoch, or the loop, has ended."""
        while True:
            # With a timeout: another thread may receive the second of two signals, and Python runs
            # its handler in this thread only when this thread runs.
            with suppress(Empty):
                return self._outcomes.get(timeout=_POLL_SECONDS)
            self._while_waiting()


class LoopThread:
    """A training loop in a thread, which starts with the first epoch.

    Args:
        train: calls the user's function with its run.
        handover: the other end of which the run has.
        seed: of the loop's global random generators.
        precision: of the loop's thread.
    """

    def __init__(
        self,
        train: Callable[[], Any],
        *,
        handover: Handover,
        seed: int,
        precision: PrecisionSettings,
    ) -> None:
        self.rng_state = RngState(seed)
        self._train, self._handover, self._precision = train, handover, precision
        self._ended: LoopEnded | None = None
        # A daemon: a loop that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="train", daemon=True)

    @property
    def is_started(self) -> bool:
        """Whether the loop has trained an epoch, or has begun to."""
        return self._thread.ident is not None

    def train_epoch(self, values: Mapping[str, float]) -> Outcome:
        """Let the loop train an epoch; return its result, or how the loop has ended."""
        if self._ended is None:
            outcome = self._resume(values)
            if not isinstance(outcome, LoopEnded):
                return outcome
            self._ended = outcome
            self._thread.join()
        return self._ended

    def end(self) -> Exception | None:
        """End the loop, wait until its function returns, and return what it raised."""
        if self._ended is None:
            outcome = self._resume(None)
            self._ended = outcome if isinstance(outcome, LoopEnded) else LoopEnded(None)
            self._thread.join()
        return self._ended.error

    def _resume(self, values: Mapping[str, float] | None) -> Outcome:
        with self.rng_state.active():
            self._handover.resume(values)
            if not self.is_started:
                self._thread.start()
            return self._handover.wait_for_outcome()

    def _work(self) -> None:
        error: Exception | None = None
        try:
            with self._precision.apply():
                self._train()
        except Exception as raised:
            error = raised
        except BaseException as raised:
            # sys.exit() in a loop ends its run, not the worker.
            error = SchedSearchError(f"the training loop raised {raised!r}")
        self._handover.finish(LoopEnded(error))
