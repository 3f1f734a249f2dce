"""The summary of its runs that a trial keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from schedsearch.run import Run
from schedsearch.storage.attributes import CLAMPED, EVERY, RUNS, TERMS, VALUES

#: A trial keeps the values of at most so many epochs; longer runs are thinned evenly.
_KEPT_EPOCHS = 500


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Return a summary of a trial's runs that is small enough for attributes.

    `values` and `terms` belong to the first seed, by epoch, to six digits; one number stands for
    epochs that all have the same. `runs` has the objective of each seed. Of a run longer than 500
    epochs only each `every`-th epoch is kept. `clamped` counts the epochs in which bounds limited
    a hyperparameter.
    """
    history = runs[0].history
    every = math.ceil(len(history.metrics) / _KEPT_EPOCHS)
    kept: dict[str, Any] = {
        VALUES: _by_name(history.values[::every]),
        TERMS: _by_name(history.terms[::every]),
        RUNS: [_run(run) for run in runs],
    }
    if every > 1:
        kept[EVERY] = every
    clamped = [name for names in history.clamped for name in names]
    if clamped:
        kept[CLAMPED] = {name: clamped.count(name) for name in dict.fromkeys(clamped)}
    return kept


def _run(run: Run) -> dict[str, Any]:
    kept: dict[str, Any] = {"seed": run.seed, "value": _json_number(run.value)}
    return kept | {"stopped_after": run.epochs} if run.stopped else kept


def _by_name(epochs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    by_name: dict[str, Any] = {}
    for name in dict.fromkeys(name for epoch in epochs for name in epoch):
        numbers = [_json_number(epoch.get(name, math.nan), digits=6) for epoch in epochs]
        by_name[name] = numbers[0] if len(set(numbers)) == 1 else numbers
    return by_name


def _json_number(value: float, digits: int = 17) -> float | None:
    """Return a number for JSON: NaN becomes None, and 17 digits are exact."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
