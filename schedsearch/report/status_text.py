"""The status of a study in lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from schedsearch.printable import count_of, describe_stop
from schedsearch.report.text import describe_plan, describe_seconds

if TYPE_CHECKING:
    from schedsearch.pruners.audit import Audit, WouldBePrunedTrial
    from schedsearch.report.status import Best, Status

#: More trials than this are counted, not listed.
_MOST_LISTED = 5


def best_line(status: Status) -> str:
    """Return the best schedule and the best constant so far, in one line."""
    if status.best is None:
        return status.counts.describe_no_value(ended=status.state == "done")
    return (
        f"best schedule {_best(status.best_schedule, status)}; "
        f"best constant {_best(status.best_constant, status)}"
    )


def _best(best: Best | None, status: Status) -> str:
    if best is None:
        return "none complete" if status.state == "done" else "none yet"
    stopped = describe_stop(best.stopped_after)
    error = "" if best.error is None else f" ± {best.error:.2g}"
    return f"{status.metric} {best.value:.5g}{error} (trial {best.number}{stopped})"


def summary_lines(status: Status) -> list[str]:
    """Return the status of a study, as the terminal shows it."""
    lines = list(_count_lines(status))
    if status.without_value is not None:
        lines.append(f"ended     {status.without_value}")
    if status.last_failure is not None:
        lines.append(f"failure   {status.last_failure}")
    if status.follows is None:
        lines.extend(_plan_lines(status))
    if status.confirmation is not None:
        lines.append(f"confirm   {status.confirmation}")
    if status.explanation is not None:
        lines.append(f"explain   {status.explanation}")
    if status.race_runs:
        ended = f"{status.race_ended} of {count_of(status.race_runs, 'further run')}"
        lines.append(f"race      {ended} of the best plans ended, each with another seed")
    if status.audit is not None:
        lines.extend(_audit_lines(status.audit))
    if status.clamped:
        clamped = ", ".join(f"{name} in {count}" for name, count in status.clamped.items())
        lines.append(f"bounds    epochs in which a value was limited by its bounds: {clamped}")
    return lines


def _count_lines(status: Status) -> Iterator[str]:
    counts = status.counts
    follows, what = status.follows, ""
    if follows is not None:
        what = f", the {follows.purpose.noun} of study {follows.study}"
    unit = "trials" if follows is None else "runs"
    yield f"study     {status.study} ({status.state}){what}"
    yield (
        f"{unit:<10}{counts.finished} of {status.total} ended: {counts.complete} complete, "
        f"{counts.pruned} pruned ({status.diverged} of them diverged), {counts.failed} failed; "
        f"{counts.running} running, {counts.waiting} waiting"
    )
    yield from _complete_lines(status)
    # A run of a race trains one seed.
    is_each = status.seeds > 1 and not status.race_runs
    of_seeds = f", each of {status.seeds} seeds," if is_each else ""
    yield (
        f"epochs    {status.epochs}{of_seeds} in {describe_seconds(status.seconds)} of training: "
        f"{status.epochs_per_second:.1f} per second"
    )
    if status.epochs_trained < status.epochs_requested:
        ratio = status.epochs_requested / max(1, status.epochs_trained)
        of_seeds = ", those of each seed counted" if status.seeds > 1 else ""
        yield (
            f"reuse     {status.epochs_requested} epochs requested{of_seeds}, "
            f"{status.epochs_trained} trained, the others cached: a ratio of {ratio:.2f}"
        )


def _complete_lines(status: Status) -> Iterator[str]:
    """Yield what the complete trials are, if they are more than the plans that are compared."""
    if not (status.race_complete or status.repeats):
        return
    plans = (("schedule", status.best_schedule), ("constant", status.best_constant))
    parts = [count_of(best.among, noun) for noun, best in plans if best is not None]
    if status.race_complete:
        parts.append(f"{count_of(status.race_complete, 'further run')} of these (race)")
    if status.repeats:
        parts.append(f"{count_of(status.repeats, 'trial')} with the plan of another")
    yield f"          complete: {', '.join(parts)}"


def _plan_lines(status: Status) -> Iterator[str]:
    for title, best in (("schedule", status.best_schedule), ("constant", status.best_constant)):
        yield f"{title:<10}{_best(best, status)}{_among(best, status.horizon)}"
        if best is not None:
            yield from _indented(best.plan)
    for trial in status.user_plans:
        value = trial.state if trial.value is None else f"{status.metric} {trial.value:.5g}"
        stopped = describe_stop(trial.stopped_after)
        yield f"your plan {value} (trial {trial.number}{stopped}, {trial.file})"
        yield from _indented(trial.plan)


def _among(best: Best | None, horizon: int) -> str:
    """Return with how many trials the best one was compared, and how long these trained."""
    if best is None:
        return ""
    among, epochs = f", the best of {best.among}", count_of(horizon, "epoch")
    if best.stopped:
        among += f", of which {best.stopped} stopped before the horizon of {epochs}"
    if best.seeds > 1 or best.error is not None:
        among += f", mean of {count_of(best.seeds, 'seed')}" if best.seeds > 1 else ", 1 seed"
    if best.error is not None:
        among += " ± standard error"
    return among if best.stopped else f"{among} after {epochs}"


def _indented(plan: Mapping[str, Any]) -> Iterator[str]:
    for line in describe_plan(plan):
        yield f"          {line}"


def _audit_lines(audit: Audit) -> Iterator[str]:
    trials = count_of(audit.complete, "trial")
    ended = f"audit     {trials} ran to the end; the pruner would have stopped"
    yield from _stopped_lines(ended, audit.would_prune)
    if audit.forecasts:
        yield (
            f"          {sum(trial.is_within for trial in audit.forecasts)} of "
            f"{count_of(len(audit.forecasts), 'forecast')} of a final value had it within the "
            "90 % interval"
        )


def _stopped_lines(ended: str, stopped: Sequence[WouldBePrunedTrial]) -> Iterator[str]:
    if not stopped:
        yield f"{ended} none of them"
        return
    listed = [f"trial {trial.number} after epoch {trial.epoch}" for trial in stopped]
    if len(listed) > _MOST_LISTED:
        listed[_MOST_LISTED:] = [f"and {len(listed) - _MOST_LISTED} more"]
    better = sum(trial.is_better for trial in stopped)
    yield (
        f"{ended} {len(stopped)} of them; {better} of these ended better than the best trial that "
        "it let pass"
    )
    yield f"          {', '.join(listed)}"
