"""`train` reproduces the trial's numbers, or reports why it does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import tomli_w
import torch
from safetensors.torch import load_file

from schedsearch.export import trial_to_config
from schedsearch.launchers.in_process import run_worker
from schedsearch.storage import plan_of
from schedsearch.worker import Messages, ProcessControl
from tests import searches
from tests.cli.command import Command
from tests.engines.toys import Toy, evaluate
from tests.searches import document, make_study


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


def exported(folder: Path, task: str = "tests.engines.toys:Toy", value: str = "last", seeds=1):
    """Return the config of the best trial of a small search."""
    content = document(trials=6, seeds=seeds, pruner={"name": "none"})
    content |= {"task": task, "horizon": 4, "objective": {"metric": "val_loss", "value": value}}
    study = make_study(folder, content)
    silent = Messages(warn=lambda line: None, info=lambda line: None)
    run_worker(study, name="ann", control=ProcessControl(lambda: False), messages=silent)
    return trial_to_config(study, study.complete_trials(constant=False)[0]), study


def save(folder: Path, content: dict) -> Path:
    path = folder / "best.toml"
    path.write_text(tomli_w.dumps(content))
    return path


TASKS = ["tests.engines.toys:Toy", "tests.engines.toys:train_toy"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("value", ["last", "best"])
def test_a_trials_metric_is_reproduced_exactly_and_the_command_says_so(run, tmp_path, task, value):
    content, _ = exported(tmp_path, task, value)
    recorded = content["source"]["value"]
    path = save(tmp_path, content)
    done = run("train", path, "--json", "--no-reuse")
    found = json.loads(done.out)
    assert done.status == 0
    assert done.err == f"seed 0: reproduced the recorded value {recorded!r} exactly\n"
    [only] = found["runs"]
    assert (only["value"], only["recorded"], found["reproduced"]) == (recorded, recorded, True)
    assert found["validation"]["val_loss"] == recorded
    assert set(found["test"]) == {"test_loss", "test_far"}
    assert f"  val_loss {recorded!r}" in run("train", path).out.splitlines()


def test_json_lists_the_values_in_force_by_epoch(run, tmp_path):
    content, study = exported(tmp_path)
    plan = plan_of(study.trial(content["source"]["trial"]))
    found = json.loads(run("train", save(tmp_path, content), "--json").out)
    resolved = plan.resolve(4, 0)
    assert len(found["values"]["lr"]) == 4
    assert found["values"]["lr"][0] == resolved.schedules[("lr",)].initial
    assert len(set(found["values"]["lr"])) == 4


def test_every_seed_of_a_trial_is_reproduced(run, tmp_path):
    content, _ = exported(tmp_path, seeds=3)
    path = save(tmp_path, content)
    found = json.loads(run("train", path, "--seed", "all", "--json", "--no-reuse").out)
    assert found["seeds"] == [0, 1, 2]
    assert [r["reproduced"] for r in found["runs"]] == [True] * 3
    assert found["validation"]["val_loss"] == pytest.approx(content["source"]["value"], rel=1e-15)
    assert json.loads(run("train", path, "--json").out)["seeds"] == [0]
    one = run("train", path)
    assert one.err.splitlines()[-1] == (
        "seed 0 is the first of the trial's 3 seeds, whose mean `export` prints: --seed all trains "
        "each of them"
    )
    other = run("train", path, "--seed", 9, "--json")
    assert json.loads(other.out)["reproduced"] is None
    assert other.err == ""


def test_a_trial_with_one_seed_says_that_the_mean_of_export_has_those_of_the_race(run, tmp_path):
    content, _ = exported(tmp_path)
    content["source"]["race"] = {"mean": 0.5, "seeds": 4, "diverged": 0}
    assert run("train", save(tmp_path, content)).err.splitlines()[-1] == (
        "seed 0 is the only one of the trial: the mean that `export` prints is over all seeds with "
        "which the race trained its plan"
    )


@pytest.mark.parametrize(
    ("table", "key", "value", "said"),
    [
        ("numerics", "torch", "1.0", "torch 1.0, here "),
        ("numerics", "processor", "an abacus", "processor an abacus, here "),
        ("source", "fingerprint", "0" * 64, "the task's source, arguments or data"),
    ],
)
def test_other_numerics_or_another_task_earn_a_warning_before_the_training(
    run, tmp_path, table, key, value, said
):
    content, _ = exported(tmp_path)
    content[table][key] = value
    done = run("train", save(tmp_path, content), "--json")
    assert done.status == 0
    first = done.err.splitlines()[0]
    assert first.startswith(f"warning: the numbers may differ from the recorded ones: {said}")
    [difference] = json.loads(done.out)["differences"]
    assert difference.startswith(said)


def test_a_value_that_is_not_reproduced_is_reported_with_both_numbers(run, tmp_path):
    content, _ = exported(tmp_path)
    value = content["source"]["value"]
    content["source"]["runs"][0]["value"] = 0.125
    done = run("train", save(tmp_path, content), "--no-reuse")
    assert done.err == f"seed 0: did not reproduce the recorded value 0.125: got {value!r}\n"
    assert done.status == 0


@pytest.mark.parametrize("value", ["last", "best"])
def test_the_saved_model_gives_the_same_metrics(run, tmp_path, value):
    content, _ = exported(tmp_path, value=value)
    # So fast that the last epoch is not the best one.
    content["hyperparameters"]["lr"]["families"] = {"linear": {"initial": 0.02, "final": 3.0}}
    content["hyperparameters"]["lr"]["families"]["linear"]["duration"] = 4
    done = run("train", save(tmp_path, content), "-o", "model.safetensors", "--json")
    found = json.loads(done.out)
    epoch, losses = found["runs"][0]["epoch"], found["runs"][0]["metrics"]["val_loss"]
    assert min(losses) < losses[-1]
    assert epoch == (4 if value == "last" else losses.index(min(losses)) + 1)
    assert f"wrote model.safetensors: the model after epoch {epoch}" in done.err.splitlines()
    task = Toy()
    model = task.model(0)
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    tested = evaluate(task, model, task.data(0).test)
    assert {f"test_{name}": metric for name, metric in tested.items()} == found["test"]
    validated = evaluate(task, model, task.data(0).validation)
    assert {f"val_{name}": metric for name, metric in validated.items()} == found["validation"]


def test_the_model_of_a_training_loop_is_the_state_of_its_checkpoint(run, tmp_path):
    content, _ = exported(tmp_path, TASKS[1])
    path = save(tmp_path, content)
    found = json.loads(run("train", path, "-o", "model.safetensors", "--json").out)
    tensors = load_file(tmp_path / "model.safetensors")
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    task = Toy()
    model = task.model(0)
    model.load_state_dict(weights)
    assert evaluate(task, model, task.data(0).test)["loss"] == found["test"]["test_loss"]


def test_several_models_carry_their_seeds_in_their_names(run, tmp_path):
    content, _ = exported(tmp_path, seeds=2)
    assert run("train", save(tmp_path, content), "--seed", "all", "-o", "m.safetensors").status == 0
    assert {p.name for p in tmp_path.glob("m*")} == {"m.0.safetensors", "m.1.safetensors"}


def test_a_loop_without_a_checkpoint_has_no_model_to_save(run, tmp_path):
    content, _ = exported(tmp_path, "tests.searches:train")
    done = run("train", save(tmp_path, content), "-o", "model.safetensors")
    assert done.status == 1
    assert done.err.endswith(
        "error: model.safetensors was not written: the training loop passes no tensors to "
        "run.checkpoint, so there is no model\n"
    )
    assert "val_loss" in done.out
    assert not (tmp_path / "model.safetensors").exists()


def test_a_config_written_by_hand_is_trained_with_its_searchs_first_seed(run, tmp_path):
    content = document(seed=5) | {"horizon": 3}
    content["hyperparameters"]["lr"]["families"] = {"constant": {"value": 0.5}}
    done = run("train", save(tmp_path, content), "--json")
    found = json.loads(done.out)
    assert (done.status, done.err) == (0, "")
    assert (found["seeds"], found["reproduced"], found["differences"]) == ([5], None, [])
    assert found["test"] == {"test_loss": 10 * 0.5**3}


def test_phases_that_the_horizon_cuts_earn_a_warning_before_the_training(run, tmp_path):
    content = document() | {"horizon": 3}
    ends = {"initial": 0.0, "peak": 0.5, "final": 0.0}
    phases = {"warmup": 1, "stable": 2, "decay": 2}
    content["hyperparameters"]["lr"]["families"] = {"warmup_stable_decay": ends | phases}
    done = run("train", save(tmp_path, content))
    assert done.status == 0
    [line] = done.err.splitlines()
    assert line.startswith("warning: ")
    assert "lr.warmup_stable_decay: warmup, stable, decay come to 5 epochs" in line
    assert "`decay` never begins" in line


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["-o", "model.pt"], "model.pt: the name must end in .safetensors"),
        (
            ["-o", "nowhere/m.safetensors"],
            "nowhere/m.safetensors: cannot be written: there is no folder nowhere",
        ),
        (["--seed", "-1"], "--seed is '-1', but must be a whole number"),
        (["--seed", "some"], "--seed is 'some', but must be a whole number"),
    ],
)
def test_a_wrong_flag_is_one_line_and_nothing_is_trained(run, tmp_path, flags, said):
    content = document()
    content["hyperparameters"]["lr"]["families"] = {"constant": {"value": 0.5}}
    done = run("train", save(tmp_path, content), *flags)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"error: {said}")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "this is a space, since lr can take several values"),
        ({"numerics": {"threads": 0}}, "numerics.threads is 0, but must be"),
        ({"numerics": {"threads": "two"}}, "numerics.threads is 'two', but must be"),
        ({"numerics": {"device": "warp"}}, "the device `warp` cannot be used here"),
        ({"source": {"runs": [{"seed": 0}]}}, "source.runs is [{'seed': 0}], but each must have"),
        ({"task": "tests.searches:trane"}, "did you mean `train`?"),
    ],
)
def test_a_wrong_config_is_one_line(run, tmp_path, change, said):
    content = document() | change
    if change:
        content["hyperparameters"]["lr"]["families"] = {"constant": {"value": 0.5}}
    done = run("train", save(tmp_path, content))
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1


def test_an_exception_of_the_task_is_one_line(run, tmp_path):
    content = document(searches.train_and_raise)
    content["hyperparameters"]["lr"]["families"] = {"constant": {"value": 0.5}}
    done = run("train", save(tmp_path, content))
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "error: tests.searches:train_and_raise raised ZeroDivisionError: the third epoch is one "
        "too many (seed 0)\n"
    )


def test_a_diverged_training_fails_and_leaves_no_model(run, tmp_path):
    content = document(searches.train_to_nan)
    content["hyperparameters"]["lr"]["families"] = {"constant": {"value": 0.75}}
    done = run("train", save(tmp_path, content), "-o", "model.safetensors", "--json")
    assert done.status == 1
    assert done.err == "error: the training diverged in epoch 1 (seed 0)\n"
    assert json.loads(done.out)["runs"][0]["value"] is None
    assert not (tmp_path / "model.safetensors").exists()


def test_cached_epochs_are_not_trained_again_and_the_result_is_the_same(run, tmp_path):
    content, _ = exported(tmp_path)
    path = save(tmp_path, content)
    trained = run("train", path, "-o", "trained.safetensors", "--json", "--no-reuse")
    run("train", path)
    cached = run("train", path, "-o", "cached.safetensors", "--json")
    said = cached.err.splitlines()[-1]
    assert "reproduced" not in said
    assert said.startswith("seed 0: 4 of 4 epochs were not trained but read from the record, where")
    assert f"(value {content['source']['value']!r}, the recorded one); --no-reuse" in said
    first, second = (json.loads(done.out)["runs"][0] for done in (trained, cached))
    assert (first.pop("epochs_trained"), second.pop("epochs_trained")) == (4, 0)
    assert (first.pop("epochs_repeated"), second.pop("epochs_repeated")) == (0, 0)
    assert (first.pop("epochs_read"), second.pop("epochs_read")) == (0, 4)
    assert (first.pop("reproduced"), second.pop("reproduced")) == (True, None)
    before, moment = first.pop("trained_at"), datetime.fromisoformat(second.pop("trained_at"))
    assert before is None
    assert abs(datetime.now(UTC) - moment) < timedelta(hours=1)
    assert first == second
    models = [load_file(tmp_path / f"{name}.safetensors") for name in ("trained", "cached")]
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())
