"""A race with a real worker: its runs are trained to the end, recorded and exported."""

from __future__ import annotations

import pytest

from schedsearch.export import trial_to_config
from schedsearch.report.space_summary import space_lines
from schedsearch.space import Space
from schedsearch.storage import StudyHandle
from schedsearch.training import fresh_seeds, search_seeds
from tests.race.simulated import race_runs
from tests.searches import document, make_study, work


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyHandle:
    content = document(trials=20, race={}, pruner={"min_epochs": 1, "reduction_factor": 2})
    study = make_study(tmp_path_factory.mktemp("race"), content)
    assert not work(study).wrong
    return study


def test_the_runs_of_a_race_train_one_further_seed_to_the_end(study):
    runs = race_runs(study)
    assert 1 < len(runs) <= 5
    for trial in runs:
        assert len(trial.intermediate_values) == study.space.horizon
        [run] = trial.user_attrs["runs"]
        assert run == {"seed": trial.user_attrs["seed"], "value": trial.value}
        assert run["seed"] not in search_seeds(study.space)
        assert run["seed"] not in fresh_seeds(study.space, 100)
        assert "draw" not in trial.user_attrs
        assert not trial.params


def test_an_exported_plan_has_the_mean_over_its_runs(study):
    plan = next(plan for plan in study.ranked_plans() if plan.seeds > 1)
    config = trial_to_config(study, plan.trial)
    source = config["source"]
    assert source["value"] == plan.trial.value
    assert source["race"] == {
        "mean": plan.mean,
        "seeds": plan.seeds,
        "diverged": 0,
        "error": plan.error,
    }
    assert Space.from_document(config, "best.toml").search.seed == 0


def test_an_exported_run_of_a_race_has_its_seed(study):
    trial = race_runs(study)[-1]
    config = trial_to_config(study, trial)
    assert config["search"] == {"seed": trial.user_attrs["seed"], "seeds": 1}
    assert config["source"]["runs"] == trial.user_attrs["runs"]


def test_check_shows_the_race(study):
    assert any("a race of the best 2" in line for line in space_lines(study.space))
