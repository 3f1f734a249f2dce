"""A trial as a config: the names, defaults and bounds of the space, and the plan's numbers."""

from __future__ import annotations

import pytest
from optuna.trial import FixedTrial

from schedsearch.export import plan_tables, trial_to_config
from schedsearch.plan import Plan
from schedsearch.schedules import Linear
from schedsearch.space import Space
from schedsearch.storage import plan_of
from tests.confirmation.tasks import content_of, searched
from tests.searches import document


def test_a_config_keeps_bounds_and_defaults(tmp_path):
    content = content_of()
    content["hyperparameters"]["lr"] |= {"bounds": [0.05, 0.9], "default": 0.2}
    study = searched(tmp_path, content)
    exported = trial_to_config(study, study.complete_trials()[0])
    assert exported["hyperparameters"]["lr"]["bounds"] == [0.05, 0.9]
    assert exported["hyperparameters"]["lr"]["default"] == 0.2
    assert Space.from_document(exported, "config").plan() == plan_of(study.complete_trials()[0])


def test_a_hyperparameter_that_is_not_searched_stays_a_default(tmp_path):
    content = content_of()
    content["hyperparameters"]["reg"] = {"default": 0.25}
    study = searched(tmp_path, content)
    exported = trial_to_config(study, study.complete_trials()[0])
    assert exported["hyperparameters"]["reg"] == {"default": 0.25}
    assert "search" not in exported["source"]
    assert set(exported["search"]) == {"seed", "seeds"}


@pytest.mark.parametrize("searched_name", ["lr", "reg"])
def test_a_config_keeps_the_interval_also_of_a_default(tmp_path, searched_name):
    content = content_of()
    content["hyperparameters"]["reg"] = {"default": 0.25}
    content["hyperparameters"][searched_name]["interval"] = "step"
    study = searched(tmp_path, content)
    trial = study.complete_trials()[0]
    exported = trial_to_config(study, trial)
    assert exported["hyperparameters"][searched_name]["interval"] == "step"
    assert Space.from_document(exported, "config").plan() == plan_of(trial)


def test_a_plan_at_epochs_is_exported_at_epochs_from_a_space_by_the_step():
    content = document()
    content["hyperparameters"]["lr"]["interval"] = "step"
    space = Space.from_document(content, "small.toml")
    at_epochs = Plan({("lr",): Linear(1.0, 0.0, duration=3)})
    assert "interval" not in plan_tables(space, at_epochs)["hyperparameters"]["lr"]


@pytest.mark.parametrize("family", ["constant", "dwa"])
def test_groups_keep_their_name_and_members(family):
    content = document() | {
        "groups": {
            "balance": {
                "members": ["weights.fit", "weights.penalty"],
                "families": {
                    "constant": {"value": {"low": 0.1, "high": 2.0}},
                    "dwa": {"temperature": {"low": 0.5, "high": 10.0}},
                },
            }
        }
    }
    weights = {"weights.fit": 1.0, "weights.penalty": 1.0}
    space = Space.from_document(content, "small.toml").with_defaults({"lr": 0.1, **weights})
    draws = [space.grid_point(3, i) for i in range(int(space.size(3)))]
    plan = space.suggest(FixedTrial(next(d for d in draws if d["balance.family"] == family)))
    tables = plan_tables(space, plan)
    assert set(tables["groups"]) == ({"balance"} if family == "dwa" else set())
    again = {"name": "again", "task": content["task"], "horizon": 9}
    again |= {"objective": content["objective"], **tables}
    assert Space.from_document(again, "config").plan() == plan
