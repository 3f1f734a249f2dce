"""Arguments of a task that each trial chooses: of a loop, of a Task, and in lanes."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import FixedTrial
from torch import Tensor, nn

from schedsearch.confirmation.candidates import candidates, few_constants_warning
from schedsearch.engines.loop import LoopRun
from schedsearch.errors import FileError, StudyError
from schedsearch.export import trial_to_config
from schedsearch.files import write_document
from schedsearch.launchers.in_process import run_worker
from schedsearch.plan import Plan
from schedsearch.preparation import ComputeOptions, choose_numerics, prepare_space
from schedsearch.report.dashboard_note import study_note
from schedsearch.report.optimization_history import by_family, importances
from schedsearch.report.preview import sample_preview
from schedsearch.reproduction import ConfigTrainer
from schedsearch.samplers.grid import FamilyGridSampler
from schedsearch.schedules import Constant
from schedsearch.space import Space
from schedsearch.storage import StudyHandle, create_study, open_database, plan_of
from schedsearch.task import Examples, Splits
from schedsearch.trajectories import open_store
from schedsearch.trajectories.node_hashes import root_hash
from schedsearch.user_plans import read_user_plan
from schedsearch.worker import Messages, ProcessControl
from tests.searches import make_study, url_of, work

PENALTIES = {"sgd": 0.5, "adamw": 0.0}
WIDTHS = {"levels": [32, 64, 128]}
OPTIMIZERS = {"levels": ["sgd", "adamw"]}
DROPOUT = {"low": 0.0, "high": 0.5}


def loss_of(lr: float, arguments: Mapping[str, Any]) -> float:
    penalty = PENALTIES[arguments["optimizer"]] + arguments["dropout"]
    return lr + abs(arguments["width"] - 64) / 64 + penalty


def train(run: LoopRun) -> None:
    """Report what the learning rate and the arguments come to."""
    for _, hp in run:
        run.report(val_loss=loss_of(hp["lr"], run.arguments))


train.hyperparameters = {"lr": 0.1}
train.arguments = {"width": 32, "optimizer": "sgd", "dropout": 0.25}


class Line:
    """Fits a line through points: a task whose training depends on all its arguments."""

    hyperparameters: Mapping[str, float] = {"lr": 0.1}
    steps_per_epoch = None
    noise: Mapping[str, tuple[int, ...]] = {}

    def __init__(self, width: int = 2, batch_size: int = 4, optimizer: str = "sgd") -> None:
        if width > 100:
            raise ValueError("too wide")
        self.width, self.batch_size, self.optimizer = width, batch_size, optimizer

    def data(self, seed: int) -> Splits:
        x = torch.linspace(-1, 1, 16)[:, None]
        split = {"x": x, "y": 2 * x + 1}
        return Splits(split, split, split)

    def model(self, seed: int) -> nn.Module:
        if self.width == 77:
            raise ValueError("no such width")
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(1, self.width), nn.Tanh(), nn.Linear(self.width, 1))

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        return {"fit": (model(batch["x"]) - batch["y"]).square().mean()}

    def metrics(self, model: nn.Module, split: Examples) -> dict[str, Tensor]:
        return {"loss": (model(split["x"]) - split["y"]).square().mean()}


def content(
    arguments: Mapping[str, Any], *, task: str = "train", trials: int = 16, **search: Any
) -> dict[str, Any]:
    lr = {"low": 0.01, "high": 0.9, "log": True}
    search = {"sampler": {"name": "random"}, "pruner": {"name": "none"}, **search}
    families = {"constant": {"value": lr}, "linear": {"initial": lr, "final": 0.01, "duration": 2}}
    return {
        "name": "small",
        "task": f"tests.test_arguments:{task}",
        "arguments": dict(arguments),
        "horizon": 3,
        "objective": {"metric": "val_loss"},
        "search": {"trials": trials, **search},
        "hyperparameters": {"lr": {"families": families}},
    }


def make(folder: Path, document: Mapping[str, Any], lanes: int = 1) -> StudyHandle:
    prepared = prepare_space(Space.from_document(document, "small.toml"))
    numerics = choose_numerics(prepared, ComputeOptions(lanes=lanes), say=print)
    return create_study(open_database(url_of(folder), create=True), prepared.record(numerics))


def run(study: StudyHandle) -> None:
    def refuse(message: str) -> None:
        raise AssertionError(message)

    run_worker(
        study, name="ann", control=ProcessControl(lambda: False), messages=Messages(refuse, print)
    )


@pytest.mark.parametrize("sampler", ["random", "tpe", "forecast"])
def test_each_trial_of_a_loop_trains_with_the_arguments_of_its_plan(
    tmp_path: Path, sampler: str
) -> None:
    arguments = {"width": WIDTHS, "optimizer": OPTIMIZERS, "dropout": DROPOUT}
    study = make(
        tmp_path,
        content(arguments, sampler={"name": sampler, "startup_trials": 4, "constants": 0.3}),
    )
    run(study)
    baseline, *trials = sorted(study.complete_trials(), key=lambda trial: trial.number)
    assert plan_of(baseline).arguments == train.arguments
    assert len(trials) == 15
    for trial in [baseline, *trials]:
        plan = plan_of(trial)
        lr = plan.values(plan.resolve(3, 0).start(2))["lr"]
        assert trial.value == pytest.approx(loss_of(lr, plan.arguments))
    constants = [t for t in trials if study.space.is_constant_plan(t.user_attrs["plan"])]
    # A variant of another plan may keep its dropout.
    assert len({plan_of(trial).arguments["dropout"] for trial in constants}) > 2
    assert {plan_of(trial).arguments["optimizer"] for trial in trials} == {"sgd", "adamw"}


def test_a_grid_has_every_combination_of_arguments_once(tmp_path: Path) -> None:
    grid = {"name": "grid", "points": 2}
    arguments = {"width": WIDTHS, "optimizer": OPTIMIZERS}
    study = make(tmp_path, content(arguments, sampler=grid, trials=1000))
    assert study.space.size(2) == 3 * 2 * (2 + 2)
    run(study)
    plans = {plan_of(trial) for trial in study.complete_trials()}
    assert len(plans) == len(study.complete_trials()) == 1 + 24


def test_a_grid_trains_the_number_1_beside_the_default_true(tmp_path: Path) -> None:
    grid = {"name": "grid", "points": 2}
    width = {"levels": [1, 2], "default": True}
    study = make(tmp_path, content({"width": width}, sampler=grid, trials=1000))
    run(study)
    widths = [plan_of(trial).arguments["width"] for trial in study.complete_trials()]
    assert sorted(map(repr, widths)) == ["1"] * 4 + ["2"] * 4 + ["True"]


@pytest.mark.parametrize("levels", [[1.0, 2.0], [True, 2]])
def test_a_study_does_not_continue_with_arguments_of_another_type(
    tmp_path: Path, levels: list[object]
) -> None:
    make(tmp_path, content({"width": {"levels": [1, 2], "default": 2}}))
    with pytest.raises(StudyError, match=r"arguments\.width\.levels: \[1, 2\] in the study"):
        make(tmp_path, content({"width": {"levels": levels, "default": 2}}))


def test_only_trials_of_equal_arguments_share_cached_epochs(tmp_path: Path) -> None:
    document = content({"width": WIDTHS}, trials=20)
    document["hyperparameters"]["lr"]["families"] = {
        "constant": {"value": {"levels": [0.1, 0.2]}},
        "linear": {"initial": {"levels": [0.1, 0.2]}, "final": 0.01, "duration": 2},
    }
    study = make(tmp_path, document)
    run(study)
    trials = study.complete_trials()
    plans = [plan_of(trial) for trial in trials]
    assert len(set(plans)) < len(plans) == 20
    for trial, plan in zip(trials, plans, strict=True):
        lr = plan.values(plan.resolve(3, 0).start(2))["lr"]
        assert trial.value == pytest.approx(loss_of(lr, train.arguments | plan.arguments))


def test_a_child_of_population_based_training_keeps_the_arguments_of_its_parent(
    tmp_path: Path,
) -> None:
    document = content(
        {"width": WIDTHS, "dropout": DROPOUT},
        trials=30,
        sampler={"name": "pbt", "population": 4, "constants": 0.0},
    )
    lr = {"low": 0.01, "high": 0.9, "log": True}
    document["hyperparameters"]["lr"]["families"] = {
        "constant": {"value": lr},
        "piecewise": {"segments": 3, "values": lr},
    }
    study = make(tmp_path, document)
    run(study)
    trials = study.trials()
    children = [trial for trial in trials if "parent" in trial.user_attrs]
    assert len(children) > 5
    for child in children:
        parent = plan_of(trials[child.user_attrs["parent"]])
        assert plan_of(child).arguments == parent.arguments


@pytest.mark.parametrize("lanes", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_config_of_a_task_trains_with_the_arguments_of_its_trial(
    tmp_path: Path, lanes: int
) -> None:
    arguments = {
        "width": {"levels": [2, 5]},
        "batch_size": {"low": 4, "high": 8, "step": 4},
        "optimizer": OPTIMIZERS,
    }
    study = make(tmp_path, content(arguments, task="Line", trials=8), lanes)
    run(study)
    trials = study.complete_trials()
    assert len({tuple(plan_of(trial).arguments.items()) for trial in trials}) > 3
    for trial in trials[-3:]:
        config = Space.from_file(trial_to_config(study, trial), "best.toml")
        assert config.plan() == plan_of(trial)
        trained = ConfigTrainer(config, study=study).train(0, lambda run: None)
        assert trained.value == trial.value
    cached = ConfigTrainer(config, open_store(study.database, print), study)
    assert cached.differences == []
    assert cached.train(0, lambda run: None).epochs_trained == 0


def test_a_confirmation_compares_plans_with_their_arguments(tmp_path: Path) -> None:
    study = make(tmp_path, content({"width": WIDTHS, "dropout": DROPOUT}, trials=12))
    run(study)
    plans, constants = candidates(study, top=2)
    assert plans
    assert constants
    for candidate in [*plans, *constants]:
        assert set(candidate.plan.arguments) == {"width", "dropout"}


def test_what_breaks_a_rule_is_refused_before_a_study_begins() -> None:
    for arguments, task, words in (
        ({"width": {"levels": [2, 200]}}, "Line", "too wide"),
        ({"width": {"levels": [2, 3]}, "depth": {"levels": [1, 2]}}, "Line", "needs a default"),
        ({"depth": {"levels": [1, 2], "default": 1}}, "train", "has no `depth`"),
        ({"optimizer": {"levels": ["sgd", "adamx"]}}, "Line", "adamx"),
    ):
        space = Space.from_document(content(arguments, task=task), "small.toml")
        with pytest.raises(FileError, match=words):
            prepare_space(space)


def test_plans_and_epochs_without_arguments_stay_as_they_were() -> None:
    plan = Plan({("lr",): Constant(0.1)})
    assert "arguments" not in plan.to_tables()
    assert plan.digest == "56513dbac7add3ddf13763ccb66a5c32659028ab4624cb63a833ba8b15c0cfc1"
    assert replace(plan, arguments={"width": 1}).digest != plan.digest
    assert root_hash("f", 0, {"threads": 1}, 9) == "a00b0e015eba7b65e5f210ea79f3b572"
    assert root_hash("f", 0, {"threads": 1}, 9, {"width": 1}) != root_hash("f", 0, {}, 9)


def test_a_worker_of_an_older_study_needs_no_arguments(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    work(study)
    assert all(not plan_of(trial).arguments for trial in study.complete_trials())


def test_a_level_with_which_a_batch_raises_is_refused_before_a_study_begins() -> None:
    space = Space.from_document(
        content({"width": {"levels": [2, 77, 3], "default": 2}}, task="Line"), "small.toml"
    )
    with pytest.raises(FileError, match=r"arguments\.width.*77.*no such width"):
        prepare_space(space)


@pytest.mark.parametrize("name", ["arguments", "arguments.width"])
def test_no_hyperparameter_has_the_name_of_searched_arguments(name: str) -> None:
    document = content({"width": WIDTHS})
    document["hyperparameters"][name] = document["hyperparameters"].pop("lr")
    with pytest.raises(FileError, match="has the name of the searched arguments"):
        Space.from_document(document, "small.toml")
    plain = {**document, "arguments": {"width": 64}}
    assert name in Space.from_document(plain, "small.toml").searched()


@pytest.mark.parametrize("other", [DROPOUT, OPTIMIZERS])
def test_no_argument_has_the_name_of_the_levels_of_another_one(other: Mapping[str, Any]) -> None:
    arguments = {"width": WIDTHS, "width.level": other}
    with pytest.raises(FileError, match="has the name of the levels of `width` in a study"):
        Space.from_document(content(arguments), "small.toml")
    for plain in ({**arguments, "width": OPTIMIZERS}, {**arguments, "width.level": WIDTHS}):
        space = Space.from_document(content(plain), "small.toml")
        assert space.suggest(FixedTrial(space.grid_point(2, 0))).arguments.keys() == plain.keys()


def constants_on_a_grid(arguments: Mapping[str, Any]) -> Space:
    document = content(arguments, sampler={"name": "grid", "points": 2})
    families = {"constant": {"value": {"levels": [0.1, 0.2]}}}
    document["hyperparameters"]["lr"] = {"families": families, "default": 0.1}
    return Space.from_document(document, "small.toml")


@pytest.mark.parametrize(
    ("argument", "default", "expected", "is_on_the_grid"),
    [
        ({"levels": [1, 2]}, 1.0, 1, True),
        ({"levels": [1.0, 2.0]}, 1, 1.0, True),
        ({"levels": ["a", 1]}, 1.0, 1, True),
        ({"low": 0.0, "high": 1.0}, 1, 1.0, True),
        ({"low": 0, "high": 1}, 1.0, 1, True),
        ({"levels": [0, 1]}, False, False, False),
        ({"levels": [False, True]}, 1, 1, False),
        ({"low": 0, "high": 1}, 0.5, 0.5, False),
    ],
)
def test_trial_0_has_the_level_that_equals_its_default_and_a_grid_the_others(
    argument: Mapping[str, Any], default: object, expected: object, is_on_the_grid: bool
) -> None:
    space = constants_on_a_grid({"width": {**argument, "default": default}})
    assert repr(space.baseline().arguments["width"]) == repr(expected)
    # The fingerprint of the task has the default of the file.
    assert repr(space.default_arguments) == repr({"width": default})
    grid = FamilyGridSampler(space, 2, seed=0)
    points = [grid.grid_point(index) for index in range(grid.size)]
    plans = [space.baseline(), *(space.suggest(FixedTrial(point)) for point in points)]
    texts = {json.dumps(plan.to_tables()) for plan in plans}
    assert len(texts) == len(plans) == (4 if is_on_the_grid else 5)


def test_a_grid_leaves_out_trial_0_beside_an_argument_with_the_name_of_its_level() -> None:
    arguments = {
        "width": {**OPTIMIZERS, "default": "sgd"},
        "width.level": {**OPTIMIZERS, "default": "adamw"},
    }
    grid = FamilyGridSampler(constants_on_a_grid(arguments), 2, seed=0)
    assert grid.size == 2 * 2 * 2 - 1


def test_a_user_plan_without_arguments_has_those_of_trial_0(tmp_path: Path) -> None:
    space = prepare_space(constants_on_a_grid({"width": {"levels": [1, 2], "default": 1.0}})).space
    config = space.to_document() | {"name": "mine", "arguments": {}}
    config["hyperparameters"] = {"lr": {"families": {"constant": {"value": 0.3}}}}
    write_document(tmp_path / "mine.json", config)
    plan = read_user_plan(tmp_path / "mine.json", space).plan
    assert repr(plan.arguments) == repr(space.baseline().arguments)


@pytest.mark.parametrize(
    ("arguments", "trials", "words"),
    [
        ({"width": {"levels": [2, 3]}}, 40, "2 combinations of arguments: about 20 trials"),
        ({"width": {"levels": [2, 3]}}, 3, "one by one: few of 3 have equal arguments"),
        ({"width": {"low": 2, "high": 9}}, 12, "one by one: few of 12"),
    ],
)
def test_the_choice_of_lanes_says_how_many_trials_have_equal_arguments(
    arguments: Mapping[str, Any], trials: int, words: str
) -> None:
    prepared = prepare_space(
        Space.from_document(content(arguments, task="Line", trials=trials), "small.toml")
    )
    said: list[str] = []
    numerics = choose_numerics(prepared, ComputeOptions(lanes=None, threads=1), said.append)
    assert words in said[0]
    assert numerics["engine"] == "sequential"


def test_reports_show_arguments(tmp_path: Path) -> None:
    arguments = {"width": WIDTHS, "optimizer": OPTIMIZERS, "dropout": DROPOUT}
    study = make(tmp_path, content(arguments, trials=21))
    run(study)
    trials = study.complete_trials()
    drawn = by_family(study.space, trials)
    assert drawn.keys() == {"lr", "arguments.width", "arguments.optimizer"}
    assert all(sum(map(len, values.values())) == len(trials) for values in drawn.values())
    shares = importances(study.space, trials)["arguments"]
    assert shares.keys() == {"width", "optimizer", "dropout"}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert sample_preview(study.space, 2, 0).to_json()["arguments"] == {
        "width": "one of 32, 64, 128",
        "optimizer": "one of sgd, adamw",
        "dropout": "0 to 0.5, linear",
    }
    note = study_note(study.space, trials, None)
    assert "- `arguments.width`: one of 32, 64, 128" in note
    assert "arguments: width=" in note
    [warning] = few_constants_warning(study)
    assert "4 searched hyperparameters and arguments" in warning


def best_of_search(folder: Path, sampler: str, worker: str) -> float:
    arguments = {"width": WIDTHS, "optimizer": OPTIMIZERS, "dropout": DROPOUT}
    document = content(arguments, trials=40, sampler={"name": sampler}) | {"horizon": 1}
    families = document["hyperparameters"]["lr"]["families"]
    document["hyperparameters"]["lr"]["families"] = {"constant": families["constant"]}
    study = make(folder / f"{sampler} {worker}", document)
    control = ProcessControl(lambda: False)
    run_worker(study, name=worker, control=control, messages=Messages(print, print), reuse=False)
    return min(trial.value for trial in study.complete_trials())


def best_of_optuna(seed: int) -> float:
    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 0.01, 0.9, log=True)
        arguments = {
            "width": trial.suggest_categorical("width", WIDTHS["levels"]),
            "optimizer": trial.suggest_categorical("optimizer", OPTIMIZERS["levels"]),
            "dropout": trial.suggest_float("dropout", **DROPOUT),
        }
        return loss_of(lr, arguments)

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial({"lr": 0.1, **train.arguments})  # trial 0 has the defaults
    study.optimize(objective, n_trials=40)
    return study.best_value


@pytest.mark.long
def test_arguments_are_searched_as_well_as_by_optuna_on_the_same_space(tmp_path: Path) -> None:
    found = {}
    for sampler in ("random", "tpe", "forecast"):
        workers = [f"worker {i}" for i in range(6)]
        for worker in workers:
            (tmp_path / f"{sampler} {worker}").mkdir()
        found[sampler] = fmean(best_of_search(tmp_path, sampler, worker) for worker in workers)
    assert found["tpe"] < 1.5 * fmean(map(best_of_optuna, range(20)))
    assert max(found["tpe"], found["forecast"]) < 0.5 * found["random"]
