"""Trials that fail in the user's own code: what is said of them, and when a worker gives up."""

from __future__ import annotations

import sys
import sysconfig
import tempfile
import threading
import traceback
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from schedsearch.errors import SchedSearchError, summarize_exception

#: A worker stops after so many trials in a row that failed in the user's own code.
FAILURES_IN_A_ROW = 3
_TRACEBACK_LENGTH = 8_000

#: Where code lies that is not the user's: Python's, packages', commands', and our own.
_NOT_THEIRS = (
    "<frozen ",
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib", "scripts")),
    str(Path(__file__).parents[1]),
    # What torch's compiler has written.
    str(Path(tempfile.gettempdir(), "torchinductor_")),
)


class Failures:
    """Counts the trials of a worker that failed in a row.

    Args:
        task: whose code it is.
        before: the worker's own trials from before it began anew.
    """

    def __init__(self, task: str, before: Iterable[FrozenTrial]) -> None:
        self._task = task
        self._in_a_row = 0
        self._last = "an epoch that took too long"
        # Trials that hung in one epoch ended at one moment, and count once.
        moments: dict[datetime, TrialState] = {}
        for trial in before:
            # What was handed back was ended by nobody's fault.
            if trial.datetime_complete and "superseded_by" not in trial.user_attrs:
                moments[trial.datetime_complete] = trial.state
        for _, state in sorted(moments.items()):
            self._in_a_row = self._in_a_row + 1 if state is TrialState.FAIL else 0

    def add(self, shown: str) -> None:
        """Count one more, as it was shown."""
        self._in_a_row, self._last = self._in_a_row + 1, shown

    def clear(self) -> None:
        """Be told that a trial ended well."""
        self._in_a_row = 0

    @property
    def too_many(self) -> SchedSearchError | None:
        """What ends the worker; None as long as nothing does."""
        if self._in_a_row < FAILURES_IN_A_ROW:
            return None
        return SchedSearchError(
            f"{self._in_a_row} trials in a row failed, the last with {self._last}\n"
            f"hint: mend {self._task} and start again; each trial keeps its traceback, "
            "which the dashboard shows"
        )


def traceback_of(error: Exception) -> str:
    """Return the end of an exception's traceback, short enough for an attribute."""
    return "".join(traceback.format_exception(error))[-_TRACEBACK_LENGTH:]


def shown(error: Exception) -> str:
    """Return an exception in one line, with the file and the line where it was raised."""
    return summarize_exception(error) + _place(traceback.extract_tb(error.__traceback__))


def where_it_hangs() -> tuple[str, str]:
    """Return the place that the user's code has come to, and the stack that led there.

    It runs in the main thread, or, for a training loop of one's own, in a thread named `train`.
    """
    loops = [thread.ident for thread in threading.enumerate() if thread.name == "train"]
    thread = loops[-1] if loops else threading.main_thread().ident
    frames = traceback.extract_stack(sys._current_frames()[thread or 0])
    return _place(frames), "".join(frames.format())[-_TRACEBACK_LENGTH:]


def _place(frames: traceback.StackSummary) -> str:
    """Return the innermost line of the user's own code, or else of all."""
    own = [frame for frame in frames if not frame.filename.startswith(_NOT_THEIRS)]
    for frame in reversed(own or frames):
        return f" ({Path(frame.filename).name}:{frame.lineno})"
    return ""
