"""The document that `train --json` prints."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from schedsearch.reproduction.config_trainer import ConfigTrainer
from schedsearch.reproduction.trained_run import TrainedRun


def to_json(runs: list[TrainedRun], trainer: ConfigTrainer) -> dict[str, Any]:
    """Return the document that `train --json` prints: means over all runs, and every run."""
    return {
        "name": trainer.space.name,
        "seeds": [run.seed for run in runs],
        "validation": _means([run.validation for run in runs]),
        "test": _means([run.test for run in runs]),
        "values": _by_name(runs[0].history.values),
        "reproduced": _all_or_none([run.reproduced for run in runs]),
        "differences": trainer.differences,
        "runs": [_run_to_json(run) for run in runs],
    }


def _run_to_json(run: TrainedRun) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "epoch": run.epoch,
        "stopped_after": run.stopped_after,
        "value": _finite_or_none(run.value),
        "recorded": run.recorded,
        "reproduced": run.reproduced,
        "epochs_trained": run.epochs_trained,
        "epochs_read": run.epochs_read,
        "epochs_repeated": run.epochs_repeated,
        "trained_at": None if run.trained_at is None else run.trained_at.isoformat(),
        "diverged": run.diverged,
        "validation": {name: _finite_or_none(value) for name, value in run.validation.items()},
        "test": {name: _finite_or_none(value) for name, value in run.test.items()},
        "values": _by_name(run.history.values),
        "metrics": _by_name(run.history.metrics),
        "terms": _by_name(run.history.terms),
    }


def _means(runs: list[Mapping[str, float]]) -> dict[str, float | None]:
    names = dict.fromkeys(name for metrics in runs for name in metrics)
    return {
        name: _finite_or_none(statistics.fmean(metrics.get(name, math.nan) for metrics in runs))
        for name in names
    }


def _all_or_none(answers: list[bool | None]) -> bool | None:
    answered = [answer for answer in answers if answer is not None]
    return all(answered) if answered else None


def _by_name(epochs: list[Mapping[str, float]]) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for epoch in epochs for name in epoch)
    return {
        name: [_finite_or_none(epoch.get(name, math.nan)) for epoch in epochs] for name in names
    }


def _finite_or_none(value: float) -> float | None:
    """Return the value; None if it is not finite, since JSON has no NaN."""
    return value if math.isfinite(value) else None
