"""Training loops that train nothing: their metric is a known function of the values over the run.

0.05 (1 + q) with 1 % of noise, where q is that of `benchmarks.known_objectives` for the values so
far.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.known_objectives import (
    HORIZON,
    SPACES,
    WEIGHT_NAMES,
    distance,
    distance_of_values,
)
from schedsearch import LoopRun

_NOISE = 0.01
#: The spaces of `benchmarks.known_objectives`, by the name of a task here.
_SPACES = {
    "known_rate": "schedules of one rate",
    "known_weights": "schedules of a rate and three weights",
}
TASKS = tuple(_SPACES)


def rate(run: LoopRun) -> None:
    """Report the distance of a learning rate from the best one."""
    _report_distances(run, ())


def weights(run: LoopRun) -> None:
    """Report the distance of a learning rate and of three weights from the best ones."""
    _report_distances(run, WEIGHT_NAMES)


_DEFAULTS = {"lr": 0.1}
vars(rate)["hyperparameters"] = _DEFAULTS
vars(weights)["hyperparameters"] = _DEFAULTS | dict.fromkeys(WEIGHT_NAMES, 0.5)


def _report_distances(run: LoopRun, names: Sequence[str]) -> None:
    values: list[dict[str, float]] = []
    for _, hp in run:
        values.append({name: hp[name] for name in ("lr", *names)})
        # Each plan has noise of its own, since all trials of a search have the same seed.
        seen = [value for of_epoch in values for value in of_epoch.values()]
        noise = random.Random(repr((run.seed, seen))).gauss(0, _NOISE)
        run.report(val_loss=0.05 * (1 + distance_of_values(values)) * math.exp(noise))


def value_of(tables: Mapping[str, Any]) -> float:
    """Return the metric of a plan at the end of the run, without noise."""
    return 0.05 * (1 + distance(tables))


def document_of(task: str) -> dict[str, Any]:
    """Return the content of a space file of one of the `TASKS`."""
    return {
        "name": task,
        "task": f"{__name__}:{task.removeprefix('known_')}",
        "objective": {"metric": "val_loss", "direction": "minimize"},
        "horizon": HORIZON,
        **SPACES[_SPACES[task]],
    }
