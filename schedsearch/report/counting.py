"""How far a piece of work is: on a terminal a bar, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from schedsearch.report.quiet import is_quiet
from schedsearch.report.text import describe_seconds

#: Seconds between two lines where the output is no terminal.
PLAIN_INTERVAL = 10.0


@contextmanager
def busy(doing: str) -> Iterator[None]:
    """Show on a terminal what is being done, and for how long, where nothing can be counted."""
    console = Console(stderr=True, highlight=False)
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    off = is_quiet() or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=off) as progress:
        progress.add_task(doing, total=None)
        yield


class Counter:
    """Shows on stderr how many of some units are done, and the time left; a context manager."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._before: float | None = None
        self._console = Console(stderr=True, highlight=False)
        self._began = self._printed = time.monotonic()
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit + "{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
            disable=is_quiet() or not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, note="")

    def __enter__(self) -> Counter:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._console.print(message, markup=False, soft_wrap=True)

    def show(self, done: float, total: int, note: str = "") -> None:
        """Show how many units are done, with a note such as the last metric."""
        now = time.monotonic()
        # What was done before this began says nothing of its speed.
        self._before = done if self._before is None else self._before
        if done > self._before:
            left = (now - self._began) / (done - self._before) * (total - done)
            note = f"{note}, about {describe_seconds(left)} left"
        self._progress.update(self._task, completed=done, total=total, note=note)
        plain = not (is_quiet() or self._console.is_terminal)
        if plain and now - self._printed > PLAIN_INTERVAL:
            self._printed = now
            self.say(f"{int(done)}/{total} {self._unit}{note}")
