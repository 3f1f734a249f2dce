"""A race whose workers are killed while they train its runs."""

from __future__ import annotations

from collections import Counter

import pytest
from optuna.trial import TrialState

from schedsearch.storage.attributes import RACED_TRIAL, SEED
from tests import searches
from tests.forks import start_process
from tests.race.simulated import race_runs
from tests.searches import document, make_study_at, wait_until
from tests.workers import run_worker

pytestmark = pytest.mark.long


def test_killed_workers_lose_and_double_no_run_of_a_race(database_url):
    content = document(
        searches.train_gently_to_a_distance,
        trials=40,
        race={"share": 0.5},
        pruner={"name": "none"},
    )
    study = make_study_at(database_url, content)
    members = [start_process(run_worker, database_url, f"worker-{i}", 2.0) for i in range(3)]
    try:
        for kill in range(3):
            wait_until(
                lambda: (
                    any(t.state is TrialState.RUNNING for t in race_runs(study))
                    or study.has_ended()
                )
            )
            victim = members.pop(0)
            victim.kill()
            victim.join()
            members.append(start_process(run_worker, database_url, f"heir-{kill}", 2.0))
        wait_until(study.has_ended)
        for member in members:
            member.join(60)
            assert member.exitcode == 0
    finally:
        for member in members:
            member.kill()
    counts = study.queue.counts()
    assert counts.complete == counts.trials == 40
    runs = race_runs(study)
    keys = Counter((trial.user_attrs[RACED_TRIAL], trial.user_attrs[SEED]) for trial in runs)
    assert 10 <= len(keys) == len(runs) <= 20
    assert all(len(trial.intermediate_values) == 9 for trial in runs)
