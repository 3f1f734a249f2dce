"""Live progress: a bar on a terminal or in a notebook, elsewhere a line every ten seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from schedsearch.printable import printable, printable_line
from schedsearch.report.notebook import NotebookDisplay, is_notebook
from schedsearch.report.status_text import best_line
from schedsearch.report.text import describe_seconds

if TYPE_CHECKING:
    from schedsearch.report.status import Status

#: Seconds between two lines where the output is no terminal.
PLAIN_INTERVAL = 10.0

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Switch progress and remarks off or on, for this process."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Return whether progress and remarks are switched off."""
    return _quiet


def is_shown(message: str) -> bool:
    """Return whether a line is printed: always unless `set_quiet`, else errors and warnings."""
    return not _quiet or message.startswith(("error:", "warning:", "hint:"))


@contextmanager
def spinner(activity: str) -> Iterator[None]:
    """Show on a terminal that work of unknown length continues, and for how long."""
    console = Console(stderr=True, highlight=False)
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    off = is_quiet() or not console.is_terminal
    with RichProgress(*columns, console=console, transient=True, disable=off) as progress:
        progress.add_task(printable_line(activity), total=None)
        yield


class Progress:
    """Shows how many units of work are done, and the time left; use it as a context manager.

    Args:
        unit: what is counted, in the plural.
        in_words: returns a message of this process as it is printed.
    """

    def __init__(self, unit: str, in_words: Callable[[str], str] = str) -> None:
        self._unit, self._in_words = unit, in_words
        self._console = Console(stderr=True, highlight=False)
        self._started = self._printed = time.monotonic()
        self._first_done: float | None = None
        self._first_epochs: int | None = None
        #: When the first epochs were seen, and how many: the time before belongs to the start.
        self._began: tuple[float, int] | None = None
        self._lock = threading.Lock()
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn(unit, markup=False),
        )
        self._task = self._bar.add_task("", total=None)
        self._live: Live | NotebookDisplay = (
            NotebookDisplay()
            if is_notebook()
            else Live(self._bar, console=self._console, transient=True)
        )

    def __enter__(self) -> Progress:
        if self._is_live and not is_quiet():
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    @property
    def _is_live(self) -> bool:
        return isinstance(self._live, NotebookDisplay) or self._console.is_terminal

    def say(self, message: str) -> None:
        """Print a line above the bar; after `set_quiet` only if it is an error or a warning."""
        if is_shown(message):
            self.relay(self._in_words(message))

    def relay(self, line: str) -> None:
        """Print a line of a worker above the bar, also after `set_quiet`: a task may print.

        What moves the cursor or sets colours is left out, and other characters that a terminal
        would obey are escaped.
        """
        with self._lock:
            plain = Text.from_ansi(line).plain
            self._console.print(Text(printable(plain)), soft_wrap=True)

    def show(self, status: Status) -> None:
        """Show how far a study is: its trials, its speed, and its best values."""
        counts = status.counts
        if self._first_epochs is None:
            self._first_epochs = counts.epochs
        now = time.monotonic()
        if self._began is None and counts.epochs > self._first_epochs:
            self._began = now, counts.epochs
        speed = (counts.epochs - self._first_epochs) / self._seconds()
        details = [
            f"{counts.running} running",
            f"{counts.pruned} pruned",
            f"{counts.failed} failed",
            f"{speed:.{1 if speed < 10 else 0}f} epochs/s",
        ]
        if waits_for := self._waits_for(status):
            details.append(f"waiting for {waits_for}")
        left = None
        if self._began is not None and now > self._began[0] and counts.epochs > self._began[1]:
            seconds = (now - self._began[0]) / (counts.epochs - self._began[1])
            left = seconds * status.epochs_left
        self._draw(counts.finished, status.total, details, status.study, best_line(status), left)

    def _waits_for(self, status: Status) -> str | None:
        """Say what the command waits for, if it is not simply the next trials."""
        counts = status.counts
        if counts.finished >= status.total:
            return None
        if self._began is None:
            if counts.running:
                return "the first epoch, which includes building the step of the training"
            return "the workers to load torch and the task"
        if counts.finished + counts.running >= status.total:
            return "the last trials"
        return None

    def count(self, done: int, total: int, *details: str, worked: float | None = None) -> None:
        """Show how many units are done, with details such as the last metric.

        `worked` counts the units in work by their finished share, for the time left.
        """
        left = self._seconds_left(done if worked is None else worked, total)
        self._draw(done, total, details, left=left)

    def _draw(
        self,
        done: int,
        total: int,
        details: Iterable[str],
        label: str = "",
        last_line: str = "",
        left: float | None = None,
    ) -> None:
        if is_quiet():
            return
        time_left = [f"about {describe_seconds(left)} left"] if left and done < total else []
        line = printable_line(", ".join([*details, *time_left]))
        label, last_line = printable_line(label), printable_line(last_line)
        self._bar.update(self._task, completed=done, total=total, description=label)
        below = [
            Text(text, overflow="ellipsis", no_wrap=True) for text in (line, last_line) if text
        ]
        self._live.update(Group(self._bar, *below))
        now = time.monotonic()
        if not self._is_live and now - self._printed > PLAIN_INTERVAL:
            self._printed = now
            counted = f"{done}/{total} {self._unit}"
            plain = ", ".join(text for text in (counted, line) if text)
            plain = "; ".join(text for text in (plain, last_line) if text)
            self.say(f"{label}: {plain}" if label else plain)

    def _seconds(self) -> float:
        return max(time.monotonic() - self._started, 1e-9)

    def _seconds_left(self, done: float, total: int) -> float | None:
        """Return the time that is left at the speed since the start; None before it is known."""
        # Work that was done before the start says nothing about the speed.
        if self._first_done is None:
            self._first_done = done
        if self._first_done < done < total:
            return self._seconds() / (done - self._first_done) * (total - done)
        return None
