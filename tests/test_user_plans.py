"""`start --also`: plans of the user, trained beside the trials of the search."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tomli_w

from schedsearch.confirmation.candidates import candidates
from schedsearch.engines import make_engine
from schedsearch.epoch_values import evaluate_epochs
from schedsearch.errors import FileError, InputError
from schedsearch.export import trial_to_config
from schedsearch.report.optimization_history import by_family
from schedsearch.report.pictures import draw_study
from schedsearch.report.status import read_status
from schedsearch.report.status_text import summary_lines
from schedsearch.schedules import Feedback
from schedsearch.space import Space
from schedsearch.storage import plan_of
from schedsearch.storage.attributes import USER_PLAN
from schedsearch.task import load_task
from schedsearch.user_plans import UserPlan, queue_user_plans, read_user_plan
from tests.cli.command import Command
from tests.searches import document, is_constant, make_study, url_of, work, write_space
from tests.test_reuse import continue_search

#: A family outside the space, and a hyperparameter that the space does not name.
MINE = {
    "lr": {"families": {"linear": {"initial": 0.9, "final": 0.1, "duration": "50%"}}},
    "reg": {"default": 0.25},
}


def write(folder, hyperparameters=MINE, **others):
    content = {**document(), "hyperparameters": hyperparameters, **others}
    path = folder / "mine.toml"
    path.write_text(tomli_w.dumps(content))
    return path


def test_a_user_plan_is_trained_in_full_beside_the_search(tmp_path):
    study = make_study(tmp_path, document(trials=25))
    queue_user_plans(study, [read_user_plan(write(tmp_path), study.space)])
    work(study)
    [user_trial] = [trial for trial in study.trials() if USER_PLAN in trial.user_attrs]
    assert len(user_trial.intermediate_values) == study.space.horizon
    assert user_trial.user_attrs["values"]["lr"][:3] == pytest.approx([0.9, 0.74, 0.58])
    assert user_trial.user_attrs["values"]["reg"] == 0.25
    assert user_trial.params == {}
    assert not is_constant(study, user_trial)
    assert study.queue.counts().finished == study.total() == 25


def test_a_grid_trains_all_of_its_points_beside_a_user_plan(tmp_path):
    content = document(trials=20)
    content["hyperparameters"]["lr"]["families"] = {
        "constant": {"value": {"levels": [0.05, 0.2, 0.4]}},
        "exponential": {"initial": {"levels": [0.1, 0.2]}, "decay_rate": 0.1},
    }
    content["search"] |= {"sampler": {"name": "grid"}, "pruner": {"name": "none"}}
    study = make_study(tmp_path, content)
    assert study.total() == 6  # trial 0 and five points
    queue_user_plans(study, [read_user_plan(write(tmp_path), study.space)])
    assert study.total() == 7
    work(study)
    assert len([trial for trial in study.trials()[1:] if trial.params]) == 5


def test_status_shows_a_user_plan_beside_the_best_schedule_and_the_best_constant(tmp_path):
    study = make_study(tmp_path)
    queue_user_plans(study, [read_user_plan(write(tmp_path), study.space)])
    assert "your plan waiting (trial 1, mine.toml)" in summary_lines(read_status(study))
    work(study)
    status = read_status(study)
    [listed] = status.to_json()["own"]
    trial = study.trial(1)
    assert listed == {
        "file": "mine.toml",
        "number": 1,
        "state": "complete",
        "value": trial.value,
        "plan": trial.user_attrs["plan"],
        "stopped_after": None,
    }
    shown = f"your plan val_loss {trial.value:.5g} (trial 1, mine.toml)"
    assert shown in summary_lines(status)


def test_a_user_plan_counts_to_no_searched_family_in_a_picture(tmp_path):
    content = document(trials=12)
    content["hyperparameters"]["lr"]["families"]["step"] = {
        "initial": 0.5,
        "decay_rate": 0.5,
        "step_size": 2,
    }
    study = make_study(tmp_path, content)
    queue_user_plans(study, [read_user_plan(write(tmp_path), study.space)])
    work(study)
    trials = study.trials()
    counted = sum(len(values) for values in by_family(study.space, trials)["lr"].values())
    assert counted == len(study.complete_trials()) - 1
    draw_study(study.space, trials)


def test_confirm_and_export_treat_a_user_plan_like_any_other(tmp_path):
    study = make_study(tmp_path)
    queue_user_plans(study, [read_user_plan(write(tmp_path), study.space)])
    work(study)
    schedules, _ = candidates(study, top=100)
    assert 1 in [candidate.number for candidate in schedules]
    exported = Space.from_document(trial_to_config(study, study.trial(1)), "exported")
    assert exported.plan() == plan_of(study.trial(1))


def test_a_user_plan_is_queued_once_for_each_type_of_its_arguments(tmp_path):
    study = make_study(tmp_path)
    plan = read_user_plan(write(tmp_path), study.space).plan
    for value in (1, 1.0, True, 1):
        changed = replace(plan, arguments={"width": value})
        queue_user_plans(study, [UserPlan("mine.toml", changed)])
    trials = [trial for trial in study.trials() if USER_PLAN in trial.user_attrs]
    assert [repr(plan_of(trial).arguments["width"]) for trial in trials] == ["1", "1.0", "True"]


def test_a_user_plan_of_constants_counts_as_a_constant(tmp_path):
    study = make_study(tmp_path)
    mine = write(tmp_path, {"lr": {"families": {"constant": {"value": 0.95}}}})
    queue_user_plans(study, [read_user_plan(mine, study.space)])
    assert is_constant(study, study.trial(1))


def test_hyperparameters_that_a_user_plan_leaves_out_are_as_in_trial_0(tmp_path):
    content = document()
    content["hyperparameters"]["lr"] |= {"default": 0.3, "bounds": [0.0, 0.5]}
    study = make_study(tmp_path, content)
    user_plan = read_user_plan(write(tmp_path, {"reg": {"default": 0.5}}), study.space)
    values = user_plan.plan.values(user_plan.plan.start())
    assert values == {"lr": 0.3, "reg": 0.5}
    high = read_user_plan(write(tmp_path), study.space).plan.resolve(9, 0)
    assert high.values(high.start())["lr"] == 0.5


def test_the_interval_of_a_user_plan_is_that_of_its_file(tmp_path):
    """Not that of the space: the same durations mean other values at another interval."""
    content = document()
    content["hyperparameters"]["lr"]["interval"] = "step"
    space = make_study(tmp_path, content).space
    assert read_user_plan(write(tmp_path), space).plan.intervals == {}
    by_step = {"lr": MINE["lr"] | {"interval": "step"}}
    assert read_user_plan(write(tmp_path, by_step), space).plan.intervals == {"lr": "step"}
    left_out = read_user_plan(write(tmp_path, {"reg": {"default": 0.5}}), space)
    assert left_out.plan.intervals == {"lr": "step"}


def test_a_user_plan_by_the_step_is_trained_by_the_step(tmp_path):
    content = document(trials=1) | {"task": "tests.engines.toys:Toy"}
    inner = {"cosine": {"initial": 0.1, "final": 0.001}}
    families = {"warmup": {"duration": 0.5, "inner": inner}}
    study = make_study(tmp_path, content)
    mine = write(tmp_path, {"lr": {"interval": "step", "families": families}})
    user_plan = read_user_plan(mine, study.space)
    queue_user_plans(study, [user_plan])
    continue_search(study, reuse=False)
    [trial] = [trial for trial in study.complete_trials() if USER_PLAN in trial.user_attrs]

    space = study.space
    engine = make_engine(load_task(space.task), horizon=9, numerics=study.record.numerics)
    engine.fill(0, space.search.seed)
    plan = user_plan.plan.resolve(space.horizon, space.search.seed)
    assert plan.moving == ("lr",)
    for values in evaluate_epochs(plan, [Feedback(0.0)] * space.horizon):
        [result] = engine.train_epoch([values])
    assert result.metrics["val_loss"] == trial.value


def test_the_task_horizon_and_objective_are_the_studys(tmp_path):
    study = make_study(tmp_path)
    mine = write(tmp_path, task="nowhere:Task", horizon=3, objective={"metric": "other"})
    assert read_user_plan(mine, study.space) == read_user_plan(write(tmp_path), study.space)


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        (
            {"lr": {"default": 0.1}, "rge": {"default": 0.1}},
            "mine.toml: hyperparameters.rge: the task has no such hyperparameter (hint: did you "
            "mean `reg`?)",
        ),
        (
            document()["hyperparameters"],
            "mine.toml: lr can take several values, but --also needs one plan",
        ),
        (
            {"lr": {"families": {"exponential": {"initial": 1.0, "decay_rate": 1e200}}}},
            "mine.toml: lr: exponential: the value of",
        ),
    ],
)
def test_an_invalid_user_plan_is_refused_with_file_and_rule(tmp_path, hyperparameters, message):
    study = make_study(tmp_path)
    with pytest.raises(InputError) as caught:
        read_user_plan(write(tmp_path, hyperparameters), study.space)
    assert message in str(caught.value)


def test_a_weight_of_no_loss_term_is_refused(tmp_path):
    space = Space.load("search_spaces/regularized.toml")
    with pytest.raises(FileError, match=r"weights\.l3: the task has no such hyperparameter"):
        read_user_plan(write(tmp_path, {"weights.l3": {"default": 1.0}}), space)


def test_the_command_line_queues_each_plan_once_and_makes_room_for_it(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))
    run = Command(monkeypatch, capsys)
    space, mine = write_space(tmp_path, document(trials=1)), write(tmp_path)
    second = tmp_path / "second.toml"
    second.write_text(mine.read_text().replace("0.25", "0.5"))
    for _ in range(2):
        done = run("start", space, "--workers", 0, "--also", mine, "--also", second)
        assert done.status == 0, done.err
    status = json.loads(run("status", "--json").out)
    assert status["trials"]["total"] == status["trials"]["waiting"] == 3
    assert [plan["file"] for plan in status["own"]] == ["mine.toml", "second.toml"]
    absent = run("start", space, "--study", "other", "--also", tmp_path / "absent.toml")
    assert (absent.status, absent.err) == (
        2,
        f"error: {tmp_path / 'absent.toml'}: there is no such file\n",
    )
    assert [s["study"] for s in json.loads(run("list", "--json").out)] == ["small"]


def test_confirm_includes_a_user_plan_of_any_rank(tmp_path):
    content = document(trials=25)
    study = make_study(tmp_path, content)
    flat = {"lr": {"families": {"linear": {"initial": 0.011, "final": 0.01}}}}
    constant = {"lr": {"families": {"constant": {"value": 0.0101}}}}
    user_plans = []
    for plan in (flat, constant):
        user_plans.append(read_user_plan(write(tmp_path, plan), study.space))
    queue_user_plans(study, user_plans)
    work(study)
    schedules, constants = candidates(study, 1)
    assert [c.plan for c in schedules] == [
        plan_of(study.complete_trials(constant=False)[0]),
        user_plans[0].plan,
    ]
    assert user_plans[1].plan in [c.plan for c in constants]
    assert len(constants) == 5
