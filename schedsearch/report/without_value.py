"""Why no trial of a study gave a value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from optuna.trial import FrozenTrial, TrialState

from schedsearch.storage import StudyHandle
from schedsearch.storage.attributes import DIVERGED, REFUSED, failure_reason, is_superseded


def without_value(study: StudyHandle) -> str | None:
    """Return in one line why a study has no complete trial; None if it has one.

    The trials that still run or wait are not mentioned.
    """
    trials = [outline.trial for outline in study.outlines() if not is_superseded(outline.trial)]
    if any(trial.state is TrialState.COMPLETE for trial in trials):
        return None
    unit = "trials" if study.follows is None else "runs"
    ended = [trial for trial in trials if trial.state.is_finished()]
    reasons = "; ".join(_reasons(ended, study.space.objective.metric, unit))
    return f"no {unit[:-1]} of study {study.name} gave a value: {reasons or f'no {unit} ended'}"


def _reasons(ended: Sequence[FrozenTrial], metric: str, unit: str) -> Iterator[str]:
    total = f"{len(ended)} {unit}"
    failed = [trial for trial in ended if trial.state is TrialState.FAIL]
    if failed:
        yield f"{len(failed)} of {total} failed, the first with {failure_reason(failed[0])}"
    refused = [trial for trial in ended if REFUSED in trial.user_attrs]
    if refused:
        reason = refused[0].user_attrs[REFUSED]
        yield f"{len(refused)} of {total} were refused, the first with {reason}"
    diverged = [trial.user_attrs[DIVERGED] for trial in ended if DIVERGED in trial.user_attrs]
    if diverged:
        yield f"{len(diverged)} of {total} diverged {_epochs(diverged, metric)}"
    pruned = len(ended) - len(failed) - len(refused) - len(diverged)
    if pruned:
        yield f"{pruned} of {total} were pruned; --pruner none stops no trial"


def _epochs(diverged: Sequence[int], metric: str) -> str:
    if set(diverged) == {1}:
        return (
            f"in epoch 1: {metric} was not a finite number there; a metric that is undefined at "
            "first must be given a number"
        )
    first, last = min(diverged), max(diverged)
    epochs = f"epoch {first}" if first == last else f"epochs {first} to {last}"
    return f"in {epochs}: {metric} was not a finite number there"
