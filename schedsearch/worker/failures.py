"""Trials that fail in the user's code: how they are reported, and when a worker gives up."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterable
from datetime import datetime

from optuna.trial import FrozenTrial, TrialState

from schedsearch.errors import SchedSearchError
from schedsearch.exception_lines import innermost_user_line
from schedsearch.storage.attributes import HANGING_EPOCH, is_superseded

#: A worker stops after so many failed trials in a row.
FAILURES_IN_A_ROW = 3
_TRACEBACK_LENGTH = 8_000


class Failures:
    """Counts the failed trials in a row of one worker.

    Args:
        task: names the user's code in the message.
        before: the trials that this worker ended before its process was restarted.
    """

    def __init__(self, task: str, before: Iterable[FrozenTrial]) -> None:
        self._task = task
        self._in_a_row = 0
        self._last = HANGING_EPOCH
        # Trials that hung in one epoch ended at one moment, and count as one failure.
        moments: dict[datetime, TrialState] = {}
        for trial in before:
            # A trial that returned to the queue did not fail.
            if trial.datetime_complete and not is_superseded(trial):
                moments[trial.datetime_complete] = trial.state
        for _, state in sorted(moments.items()):
            self._in_a_row = self._in_a_row + 1 if state is TrialState.FAIL else 0

    def add(self, shown: str) -> None:
        """Count one more failure, described by one line."""
        self._in_a_row, self._last = self._in_a_row + 1, shown

    def clear(self) -> None:
        """Begin to count at zero: a trial ended without a failure."""
        self._in_a_row = 0

    @property
    def too_many(self) -> SchedSearchError | None:
        """The error that ends the worker; None while there were fewer failures."""
        if self._in_a_row < FAILURES_IN_A_ROW:
            return None
        return SchedSearchError(
            f"{self._in_a_row} trials in a row failed, the last with {self._last}\n"
            f"hint: fix {self._task} and start again; the dashboard shows each trial's traceback"
        )


def traceback_of(error: Exception) -> str:
    """Return the end of an exception's traceback, short enough for an attribute."""
    return "".join(traceback.format_exception(error))[-_TRACEBACK_LENGTH:]


def hanging_line() -> tuple[str, str]:
    """Return the line that the user's code executes now, and its stack.

    A task runs in the main thread, a training loop in a thread named `train`.
    """
    loops = [thread.ident for thread in threading.enumerate() if thread.name == "train"]
    thread = loops[-1] if loops else threading.main_thread().ident
    frames = traceback.extract_stack(sys._current_frames()[thread or 0])
    return innermost_user_line(frames), "".join(frames.format())[-_TRACEBACK_LENGTH:]
