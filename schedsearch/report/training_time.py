"""For how long a study was in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from optuna.trial import FrozenTrial, TrialState

from schedsearch.storage import StudyHandle
from schedsearch.storage.rows import to_local_time


def seconds_of_training(study: StudyHandle, rows: Sequence[FrozenTrial]) -> float:
    """Return for how many seconds at least one trial was in training, so without the pauses."""
    return _seconds(rows, _training_ends(study, rows))


def _training_ends(study: StudyHandle, rows: Iterable[FrozenTrial]) -> dict[int, datetime]:
    """Return until when the running trials have trained, by id, in local time."""
    running = [row._trial_id for row in rows if row.state is TrialState.RUNNING]
    if not running:
        return {}
    ends = study.queue.liveness.training_ends(running)
    return {trial_id: to_local_time(end) for trial_id, end in ends.items()}


def _seconds(trials: Iterable[FrozenTrial], ends: Mapping[int, datetime]) -> float:
    """Return for how long at least one trial was in training, so without the pauses.

    Args:
        trials: all rows of the study. Their times are those of the database's clock, and a worker
            measures the duration of a trial itself, so clocks of hosts do not matter.
        ends: until when the running trials have trained, by id, in local time.
    """
    spans = sorted(
        (trial.datetime_start, end)
        for trial in trials
        if trial.datetime_start is not None
        and (end := trial.datetime_complete or ends.get(trial._trial_id)) is not None
    )
    seconds, until = 0.0, datetime.min
    for start, end in spans:
        seconds += max((end - max(start, until)).total_seconds(), 0.0)
        until = max(until, end)
    return seconds
