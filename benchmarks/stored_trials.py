"""Fill a study with many trials in one transaction."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from sqlalchemy import insert

from schedsearch.plan import Plan
from schedsearch.storage import StudyHandle
from schedsearch.storage.tables import parameters, reports, trials, user_attributes, values

#: Epochs that each stored trial reported, by default.
EPOCHS = 20
#: The first trial id, larger than the ids that the study already has.
_FIRST = 1_000


def store_trials(study: StudyHandle, number: int, epochs: int = EPOCHS) -> None:
    """Add `number` complete random trials with their reports and plans."""
    sampled = list(_sample(study, number))
    moment = datetime.now()
    rows: dict[Any, list[dict[str, Any]]] = {
        table: [] for table in (trials, parameters, reports, values, user_attributes)
    }
    for count, (trial, plan) in enumerate(sampled):
        trial_id, errors = _FIRST + count, _errors(count, epochs)
        row = {"trial_id": trial_id}
        rows[trials].append(
            {
                **row,
                "number": 1 + count,
                "study_id": study.study_id,
                "state": "COMPLETE",
                "datetime_start": moment,
                "datetime_complete": moment,
            }
        )
        rows[parameters].extend(
            {
                **row,
                "param_name": name,
                "param_value": distribution.to_internal_repr(trial.params[name]),
                "distribution_json": distribution_to_json(distribution),
            }
            for name, distribution in trial.distributions.items()
        )
        rows[reports].extend(
            {**row, "step": step, "intermediate_value": e, "intermediate_value_type": "FINITE"}
            for step, e in enumerate(errors, start=1)
        )
        rows[values].append({**row, "objective": 0, "value": errors[-1], "value_type": "FINITE"})
        attributes = {"draw": count, "worker": "earlier", "plan": plan.to_tables()}
        rows[user_attributes].extend(
            {**row, "key": key, "value_json": json.dumps(value)}
            for key, value in attributes.items()
        )
    with study.database.engine.begin() as connection:
        for table, of_table in rows.items():
            connection.execute(insert(table), of_table)


def _sample(study: StudyHandle, number: int) -> Iterator[tuple[optuna.Trial, Plan]]:
    memory = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(number):
        trial = memory.ask()
        yield trial, study.space.suggest(trial)


def _errors(count: int, epochs: int) -> list[float]:
    rng = random.Random(count)
    return [rng.uniform(0.2, 1.0) * 0.97**epoch for epoch in range(epochs)]
