"""One live display of a search: on a terminal redrawn in place, elsewhere a line now and then."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from schedsearch.pruners import Audit
from schedsearch.report.quiet import is_quiet
from schedsearch.report.status import Best, Status
from schedsearch.report.text import describe_plan, describe_seconds

#: Seconds between two lines where the output is no terminal.
PLAIN_INTERVAL = 10.0


class SearchDisplay:
    """Shows how a search goes, on stderr; use as a context manager."""

    def __init__(self, total: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._began = time.monotonic()
        self._first: tuple[int, int] | None = None
        self._printed = self._began
        self._lock = threading.Lock()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("trials"),
        )
        self._task = self._progress.add_task("", total=total)
        self._live = Live(self._progress, console=self._console, transient=True)

    def __enter__(self) -> SearchDisplay:
        if self._console.is_terminal and not is_quiet():
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, message: str) -> None:
        """Print a line above the display."""
        with self._lock:
            self._console.print(message, markup=False, soft_wrap=True)

    def show(self, status: Status) -> None:
        """Show how the study stands."""
        if is_quiet():
            return
        counts, best = self._counts(status), comparison(status)
        self._progress.update(
            self._task,
            completed=status.counts.finished,
            total=status.total,
            description=status.study,
        )
        lines = (Text(line, overflow="ellipsis", no_wrap=True) for line in (counts, best))
        self._live.update(Group(self._progress, *lines))
        now = time.monotonic()
        if not self._console.is_terminal and now - self._printed > PLAIN_INTERVAL:
            self._printed = now
            finished = f"{status.counts.finished}/{status.total} trials"
            self.say(f"{status.study}: {finished}, {counts}; {best}")

    def _counts(self, status: Status) -> str:
        counts = status.counts
        if self._first is None:
            self._first = (counts.finished, counts.epochs)
        seconds = max(time.monotonic() - self._began, 1e-9)
        finished, epochs = counts.finished - self._first[0], counts.epochs - self._first[1]
        left = status.total - counts.finished
        parts = [
            f"{counts.running} running",
            f"{counts.pruned} pruned",
            f"{counts.failed} failed",
            f"{epochs / seconds:.{1 if epochs < 10 * seconds else 0}f} epochs/s",
        ]
        if finished and left:
            parts.append(f"about {describe_seconds(left * seconds / finished)} left")
        return ", ".join(parts)


def comparison(status: Status) -> str:
    """Return the best so far against the best constant, in one line."""
    if status.best is None:
        return "no trial is complete yet"
    return (
        f"best schedule {_shown(status.best_schedule, status)}; "
        f"best constant {_shown(status.best_constant, status)}"
    )


def _shown(best: Best | None, status: Status) -> str:
    if best is None:
        return "none complete" if status.state == "done" else "none yet"
    return f"{status.metric} {best.value:.5g} (trial {best.number})"


def summary_lines(status: Status) -> list[str]:
    """Return how a study stands, in lines for the terminal."""
    counts = status.counts
    lines = [
        f"study     {status.study} ({status.state})",
        f"trials    {counts.finished} of {status.total} ended: {counts.complete} complete, "
        f"{counts.pruned} pruned ({status.diverged} of them diverged), {counts.failed} failed; "
        f"{counts.running} running, {counts.waiting} waiting",
        f"epochs    {counts.epochs} in {describe_seconds(status.seconds)} of training: "
        f"{status.epochs_per_second:.1f} per second",
    ]
    if status.epochs_trained != status.epochs_asked:
        lines.append(
            f"reuse     {status.epochs_asked} epochs asked for, {status.epochs_trained} trained: "
            f"a ratio of {status.epochs_asked / max(1, status.epochs_trained):.2f}"
        )
    for title, best in (("schedule", status.best_schedule), ("constant", status.best_constant)):
        budget = f", the best of {best.among} after {status.horizon} epochs" if best else ""
        lines.append(f"{title:<10}{_shown(best, status)}{budget}")
        if best is not None:
            lines.extend(f"          {line}" for line in describe_plan(best.plan))
    for own in status.own:
        value = own.state if own.value is None else f"{status.metric} {own.value:.5g}"
        lines.append(f"own       {value} (trial {own.number}, {own.file})")
        lines.extend(f"          {line}" for line in describe_plan(own.plan))
    if status.confirmation is not None:
        lines.append(f"confirmed {status.confirmation}")
    if status.audit is not None:
        lines.append(f"pruning   {_audit_line(status.audit)}")
    if status.clamped:
        shown = ", ".join(f"{name} in {count}" for name, count in status.clamped.items())
        lines.append(f"bounds    of all epochs, held at its bounds: {shown}")
    return lines


def _audit_line(audit: Audit) -> str:
    line = f"of {audit.ended} trials kept to the end to audit it, it would have ended "
    if not audit.would_prune:
        return line + "none"
    epochs = ", ".join(
        f"trial {one.number} after epoch {one.epoch}" for one in audit.would_prune[:5]
    )
    more = f" and {len(audit.would_prune) - 5} more" if len(audit.would_prune) > 5 else ""
    better = sum(one.is_better for one in audit.would_prune)
    return line + (
        f"{len(audit.would_prune)} ({epochs}{more}); better in the end than the best survivor: "
        f"{better}"
    )
