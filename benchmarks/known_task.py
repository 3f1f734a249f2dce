"""Training loops that train nothing: their metric is a known function of the values over the run.

0.05 (1 + q) with 1 % of noise, where q is that of `benchmarks.known_objectives`. What an epoch
cannot know yet counts as 1.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.known_objectives import HORIZON, SPACES, WEIGHT_NAMES, distance
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
    best = {0: (1.0, -0.5), HORIZON // 2: (0.5, -1.0), HORIZON - 1: (1.0, -2.0)}
    distance = sum(factor for factor, _ in best.values()) + 3.0 * len(names)
    seen: list[float] = []
    for epoch, hp in run:
        seen += [hp[name] for name in ("lr", *names)]
        if epoch in best:
            factor, target = best[epoch]
            distance += factor * ((math.log10(max(hp["lr"], 1e-6)) - target) ** 2 - 1)
        for place, name in enumerate(names):
            targets = {0: 0.1 + 0.3 * place, HORIZON - 1: 0.9 - 0.2 * place}
            if epoch in targets:
                distance += 1.5 * ((hp[name] - targets[epoch]) ** 2 - 1)
        # Each plan has noise of its own, since all trials of a search have the same seed.
        noise = random.Random(repr((run.seed, seen))).gauss(0, _NOISE)
        run.report(val_loss=0.05 * (1 + distance) * math.exp(noise))


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
