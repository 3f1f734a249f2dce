"""Workers that end each trial in one round, with a value that depends on its plan and its seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from schedsearch.plan import Plan
from schedsearch.race.race import make_race
from schedsearch.space import Space
from schedsearch.storage import (
    BatchedStorage,
    StudyHandle,
    StudyRecord,
    create_study,
    open_database,
)
from schedsearch.storage.attributes import DIVERGED, PLAN, RACED_TRIAL, SEED
from tests.searches import document

_NUMERICS = {"engine": "sequential", "threads": 1, "device": "cpu", "torch": "2.13.0"}


def study_with_race(url: str, **search: Any) -> StudyHandle:
    """Create a study whose file has a race, without loading its task."""
    content = document(**{"race": {}, "pruner": {"name": "none"}, **search})
    content["hyperparameters"]["lr"]["default"] = 0.1
    space = Space.from_document(content, "small.toml")
    database = open_database(url, create=True)
    return create_study(database, StudyRecord(space, space.search.trials, _NUMERICS, "print"))


def race_runs(study: StudyHandle) -> list[FrozenTrial]:
    return [trial for trial in study.trials() if RACED_TRIAL in trial.user_attrs]


def noisy(number: int, seed: int) -> float:
    """Return the value of a run: plans differ by 1 on average, and seeds as much."""
    return random.Random(number).gauss(0, 1) + random.Random(f"{number} {seed}").gauss(0, 1)


class SimulatedWorker:
    """A worker with lanes; each round ends all its trials and claims others.

    Args:
        study: the study.
        name: of the worker.
        lanes: how many trials it has at a time.
        value: of a run, by the number of the plan's first trial and the seed; NaN: it diverges.
        epochs: how many each trial reports.
    """

    def __init__(
        self,
        study: StudyHandle,
        name: str = "ann",
        lanes: int = 4,
        value: Callable[[int, int], float] = noisy,
        epochs: int = 1,
    ) -> None:
        self._study, self._name, self._lanes, self._value = study, name, lanes, value
        self._epochs = epochs
        self.storage = BatchedStorage(study.database)
        self._race = make_race(study.space)
        self.live: list[int] = []

    def round(self) -> bool:
        """End the trials, and claim others; return whether the worker has any."""
        self.storage.refresh(self._study.study_id)
        with self.storage.batch(self._study.study_id, self._name, self._race) as batch:
            for trial_id in self.live:
                self._end(self.storage.get_trial(trial_id))
            batch.claim(self._lanes)
        self.live = batch.claimed
        return bool(self.live)

    def run(self) -> None:
        """Work until nothing is left."""
        while self.round():
            pass

    def _end(self, trial: FrozenTrial) -> None:
        trial_id, attributes = trial._trial_id, trial.user_attrs
        if PLAN not in attributes:
            family = "constant" if trial.number % 4 == 0 else "exponential"
            parameters = {"constant": {"value": 0.1}, "exponential": {"initial": 0.1}}[family]
            parameters |= {"decay_rate": 0.5 + trial.number / 10_000} if trial.number % 4 else {}
            if trial.number % 4 == 0:
                parameters["value"] = 0.1 + trial.number / 10_000
            tables = {"hyperparameters": {"lr": {"families": {family: parameters}}}}
            plan = Plan.from_tables(tables).to_tables()
            self.storage.set_trial_user_attr(trial_id, PLAN, plan)
        seed = attributes.get(SEED, self._study.space.search.seed)
        value = self._value(attributes.get(RACED_TRIAL, trial.number), seed)
        for epoch in range(1, self._epochs + 1):
            self.storage.set_trial_intermediate_value(trial_id, epoch, value)
        if math.isnan(value):
            self.storage.set_trial_user_attr(trial_id, DIVERGED, self._epochs)
            self.storage.set_trial_state_values(trial_id, TrialState.PRUNED, None)
        else:
            self.storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [value])
