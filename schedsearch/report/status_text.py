"""The status of a study in lines for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.report.text import describe_plan, describe_seconds

if TYPE_CHECKING:
    from schedsearch.pruners import Audit
    from schedsearch.report.status import Best, Status


def best_line(status: Status) -> str:
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
    line = f"of {audit.complete} trials kept to the end to audit it, it would have ended "
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
