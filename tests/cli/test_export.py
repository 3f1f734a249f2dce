"""`export`: the plan that it writes, the file formats, and the input that it refuses."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
from optuna.trial import TrialState

from schedsearch.confirmation.stored_result import confirmation_result
from schedsearch.space import Space
from schedsearch.storage import plan_of
from schedsearch.storage.attributes import CONFIRMATION_RESULT
from tests.cli.command import Command
from tests.confirmation.tasks import content_of, searched
from tests.searches import document, make_study, url_of


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Command:
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


@pytest.fixture
def study(tmp_path):
    return searched(tmp_path, content_of())


def store_confirmation(study, number: int, verdict: str) -> None:
    """Store a confirmation that compares one schedule with the default."""
    plan = {"number": number, "mean": 0.1, "verdict": verdict, "difference": -0.3, "p": 0.001}
    against = {"number": None, "difference": -0.3, "interval": [-0.4, -0.2]}
    against |= {"wins": 20, "losses": 0}
    plan |= {"interval": [-0.4, -0.2], "wins": 20, "losses": 0, "diverged": 0}
    plan |= {"level": 0.05, "seeds_to_show": None, "against": [against]}
    default = {"number": None, "mean": 0.4, "diverged": 0}
    result = {"metric": "test_loss", "direction": "minimize", "test": True, "seeds": [5, 25]}
    result |= {"plans": [plan], "constants": [default], "baseline": default}
    study.database.optuna.set_study_user_attr(study.study_id, CONFIRMATION_RESULT, result)


@pytest.mark.parametrize("suffix", ["toml", "yaml", "yml", "json"])
def test_every_file_format_holds_the_trials_plan(run, study, tmp_path, suffix):
    best = study.complete_trials()[0]
    done = run("export", "small", "-o", f"best.{suffix}")
    assert (done.status, done.out) == (0, "")
    name, value = f"best.{suffix}", f"{best.value:.6g}"
    assert done.err.startswith(
        f"wrote {name}: trial {best.number} of small, val_loss {value} (1 seed)\n"
    )
    loaded = Space.load(tmp_path / name)
    assert loaded.plan() == plan_of(best)
    assert (loaded.horizon, loaded.objective) == (study.space.horizon, study.space.objective)


def test_without_a_file_toml_goes_to_stdout_and_all_else_to_stderr(run, study, tmp_path):
    before = set(tmp_path.iterdir())
    done = run("export", "small")
    assert Space.from_document(tomllib.loads(done.out), "stdout").plan() == plan_of(
        study.complete_trials()[0]
    )
    assert set(tmp_path.iterdir()) == before
    assert done.err.startswith("not confirmed: the value comes from the search; ")


def test_the_confirmed_winner_is_exported_even_if_another_trial_is_better_by_validation(run, study):
    number = study.complete_trials()[-1].number
    store_confirmation(study, number, "better")
    done = run("export", "small")
    source = tomllib.loads(done.out)["source"]
    assert (source["trial"], source["confirmed"]) == (number, True)
    assert source["confirmation"]["mean"] == 0.1
    found, warning = done.err.splitlines()
    assert (
        found == "confirmed to be better than the constants: mean test_loss 0.1 over 20 fresh seeds"
    )
    hint = "was not part of the confirmation: run `schedsearch confirm small` again"
    assert re.fullmatch(rf"warning: trial \d+ {hint}", warning)


def test_status_and_export_say_that_a_schedule_was_better_than_a_weak_baseline(run, study):
    store_confirmation(study, study.complete_trials()[0].number, "better")
    result = dict(confirmation_result(study)) | {"coarse": ["lr: `constant` has only 3 values"]}
    study.database.optuna.set_study_user_attr(study.study_id, CONFIRMATION_RESULT, result)
    assert "\nweak baseline: lr: `constant` has only 3 values\n" in run("export", "small").err
    assert " (a weak baseline: `confirm` says why)" in run("status", "small").out


@pytest.mark.parametrize("verdict", ["worse", "no difference seen"])
def test_a_trial_that_is_not_better_is_not_called_confirmed(run, study, verdict):
    best = study.complete_trials()[0].number
    store_confirmation(study, best, verdict)
    done = run("export", "small")
    source = tomllib.loads(done.out)["source"]
    assert (source["trial"], source["confirmed"]) == (best, False)
    assert done.err.startswith(f"not confirmed, {verdict}: mean test_loss 0.1 over 20 fresh seeds")


@pytest.mark.parametrize("best_is_constant", [False, True])
def test_if_nothing_won_the_plan_with_the_best_mean_on_fresh_seeds_is_exported(
    run, study, best_is_constant
):
    first, second = (trial.number for trial in study.complete_trials(constant=False)[:2])
    constant = study.complete_trials(constant=True)[0].number
    means = {first: 0.5, second: 0.4, constant: 0.3 if best_is_constant else 0.6}
    store_confirmation(study, first, "no difference seen")
    result = dict(confirmation_result(study))
    template = result["plans"][0]
    template["against"] *= 2
    result["plans"] = [template | {"number": n, "mean": means[n]} for n in (first, second)]
    # The default has the best mean of all, but no trial to export.
    default = {"number": None, "mean": 0.1, "diverged": 0}
    result["constants"] = [{"number": constant, "mean": means[constant], "diverged": 0}, default]
    study.database.optuna.set_study_user_attr(study.study_id, CONFIRMATION_RESULT, result)
    done = run("export", "small")
    source = tomllib.loads(done.out)["source"]
    expected = constant if best_is_constant else second
    assert (source["trial"], source["confirmed"]) == (expected, False)
    assert (
        "no schedule was confirmed to be better than the constants: this trial has the best mean "
        "in the confirmation\n"
    ) in done.err


def test_a_trial_is_chosen_by_its_number(run, study):
    done = run("export", "small", "--trial", 0)
    found = tomllib.loads(done.out)
    assert found["source"]["trial"] == 0
    assert Space.from_document(found, "stdout").plan() == study.space.baseline()


def test_a_config_records_its_study_and_trial_but_not_the_storage(run, study):
    found = tomllib.loads(run("export", "small").out)
    source, best = found["source"], study.complete_trials()[0]
    expected = {"study": "small", "trial": best.number, "metric": "val_loss"}
    assert expected | {"value": best.value} == {k: source[k] for k in [*expected, "value"]}
    assert source["fingerprint"] == study.record.fingerprint
    assert set(source["versions"]) == {"schedsearch", "torch", "optuna"}
    assert found["numerics"] == study.record.numerics
    assert "studies.db" not in json.dumps(found)
    assert "sqlite" not in json.dumps(found)


def test_a_trial_of_several_seeds_lists_them_with_their_metrics(run, tmp_path):
    study = searched(tmp_path, content_of(seeds=3, seed=7))
    source = tomllib.loads(run("export", "small").out)["source"]
    assert [r["seed"] for r in source["runs"]] == [7, 8, 9]
    assert source["runs"] == study.complete_trials()[0].user_attrs["runs"]


def test_a_missing_trial_or_study_is_one_line(run, study):
    done = run("export", "small", "--trial", 99)
    assert (done.status, done.out, done.err) == (2, "", "error: study `small` has no trial 99\n")
    done = run("export", "smal")
    assert (done.status, done.out) == (2, "")
    assert done.err.endswith("has no study `smal`: did you mean `small`?\n")


def test_a_trial_that_is_not_complete_is_refused(run, tmp_path):
    study = searched(tmp_path, document(trials=20))
    pruned = next(t.number for t in study.trials() if t.state is TrialState.PRUNED)
    done = run("export", "small", "--trial", pruned)
    said = f"error: trial {pruned} is pruned, but must be complete\n"
    assert (done.status, done.out, done.err) == (2, "", said)


def test_a_constant_that_no_schedule_beats_is_called_so_without_a_confirmation(run, tmp_path):
    study = searched(tmp_path, document(trials=20))
    constant = study.complete_trials(constant=True)[0].number
    schedule = study.complete_trials(constant=False)[0].number
    assert "a constant\n" in run("export", "small", "--trial", constant).err
    assert "a constant" not in run("export", "small", "--trial", schedule).err
    is_best = study.complete_trials()[0].number == constant
    assert ("a constant: no schedule was better\n" in run("export", "small").err) == is_best


def test_without_a_complete_trial_there_is_nothing_to_export(run, tmp_path):
    make_study(tmp_path)
    done = run("export", "small", "-o", "best.toml")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: study small has no complete trial yet")
    assert not (tmp_path / "best.toml").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("best.txt", "best.txt: the name must end in .toml, .yaml, .yml or .json"),
        ("nowhere/best.toml", "nowhere/best.toml: cannot be written: there is no folder nowhere"),
        ("folder.toml", "folder.toml: cannot be written: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line_and_leaves_nothing(
    run, study, tmp_path, name, said
):
    (tmp_path / "folder.toml").mkdir()
    before = set(tmp_path.rglob("*"))
    done = run("export", "small", "-o", name)
    assert (done.status, done.out, done.err) == (2, "", f"error: {said}\n")
    assert set(tmp_path.rglob("*")) == before
