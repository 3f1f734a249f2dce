"""Training loops whose explanation is known, and studies of them."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from schedsearch.engines.loop import LoopRun
from schedsearch.explanation.explain import Explanation, prepare_explanation, train_stages
from schedsearch.storage import StudyHandle
from tests.searches import DEFAULTS, document, make_study, work

#: From this seed on, no search and no confirmation has met a seed.
FRESH = 2_000_000


def train_by_decay(run: LoopRun) -> None:
    """Care for the decay of lr only: large steps at first, and small ones at the end."""
    draws, values = random.Random(run.seed), ""
    distance = 5.0
    for _, hp in run:
        values += f"{hp['lr']} {hp['reg']}"
        distance = distance * (1 - hp["lr"]) + hp["lr"] ** 3 * draws.uniform(0.8, 1.2)
        run.report(val_loss=distance)
    run.test(loss=distance + random.Random(f"{run.seed} {values}").gauss(0.0, 0.003))


def train_by_decay_with_a_bad_seed(run: LoopRun) -> None:
    """Care for the decay of lr only, but diverge on the first fresh seed."""
    if run.seed != FRESH:
        train_by_decay(run)
        return
    for _ in run:
        run.report(val_loss=math.nan)


def train_by_feedback(run: LoopRun) -> None:
    """Want a large rate until progress ends, after an epoch that differs by seed; then a small one.

    So a schedule has to follow the training: no path is right for all seeds.
    """
    end, loss, missed = 2 + random.Random(run.seed).randrange(5), 10.0, 0.0
    for epoch, hp in run:
        missed += abs(hp["lr"] - (1.0 if epoch <= end else 0.1))
        loss -= 1.0 if epoch < end else 0.0
        run.report(val_loss=loss + missed)
    run.test(loss=missed + random.Random(f"{run.seed} {missed}").gauss(0.0, 0.01))


def train_by_luck(run: LoopRun) -> None:
    """Care for nothing: draw from the seed and the values of this very plan."""
    values = ""
    for _, hp in run:
        values += f"{hp['lr']} {hp['reg']}"
        run.report(val_loss=random.Random(f"{run.seed} {values}").random())
    run.test(loss=random.Random(f"{run.seed} {values} tested").random())


for _function in (train_by_decay, train_by_decay_with_a_bad_seed, train_by_feedback, train_by_luck):
    _function.hyperparameters = DEFAULTS

_RATE = {"low": 0.01, "high": 0.9, "log": True}
_DECAY = {
    "constant": {"value": _RATE},
    "exponential": {"initial": {"low": 0.85, "high": 0.9}, "decay_rate": 0.8},
}
_PLATEAU = {
    "constant": {"value": {"low": 0.05, "high": 1.0}},
    "reduce_on_plateau": {
        "initial": {"low": 0.95, "high": 1.0},
        "factor": 0.1,
        "patience": 0,
        "min_value": 0.1,
    },
}
_REG = {
    "constant": {"value": {"low": 0.1, "high": 1.0}},
    "linear": {"initial": {"low": 0.1, "high": 1.0}, "final": {"low": 0.1, "high": 1.0}},
}


def content_of(task: Any, trials: int = 30, **search: Any) -> dict[str, Any]:
    """Return a space of lr and reg for a task: each is constant or has a schedule."""
    content = document(task, trials=trials, pruner={"name": "none"}, race={"top": 0}, **search)
    content["task"] = f"{__name__}:{task.__name__}"
    lr = _PLATEAU if task is train_by_feedback else _DECAY
    content["hyperparameters"] = {"lr": {"families": lr}, "reg": {"families": _REG}}
    return content


def searched(folder: Path, content: dict[str, Any]) -> StudyHandle:
    """Return a study whose trials have all ended."""
    study = make_study(folder, content)
    work(study)
    return study


def explained(study: StudyHandle, **options: Any) -> dict[str, Any]:
    """Explain a study with one worker in this process, and return the result."""
    with prepare_explanation(study, **{"seeds": 12, **options}) as explanation:
        return last_stage(explanation).judge()


def last_stage(explanation: Explanation) -> Explanation:
    """Train all stages of an explanation in this process."""
    return train_stages(explanation, lambda stage: work(stage.study))


def with_both(study: StudyHandle) -> int:
    """Return the number of the best trial with schedules for lr and for reg, or for one of them."""
    schedules = study.complete_trials(constant=False)
    for trial in schedules:
        tables = trial.user_attrs["plan"]["hyperparameters"]
        if all("constant" not in tables[name]["families"] for name in ("lr", "reg")):
            return trial.number
    return schedules[0].number
