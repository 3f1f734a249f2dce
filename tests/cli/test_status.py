"""`status`, `list` and `delete`: their output for people and for programs."""

from __future__ import annotations

import io
import json
import re
import time
from datetime import datetime, timedelta, tzinfo

import pytest
from optuna.trial import TrialState, create_trial
from sqlalchemy import text

from schedsearch.cli import main
from schedsearch.report.dashboard_artifacts import DashboardArtifacts, picture_store
from schedsearch.report.optimization_history import optimization_history
from schedsearch.storage import rows
from schedsearch.storage.attributes import SUPERSEDED_BY
from tests.claims import claim
from tests.searches import document, make_study, url_of, work


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command on the storage in this process; return exit code, stdout, stderr."""
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["schedsearch", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def test_the_json_of_status_has_its_documented_keys(run, tmp_path):
    study = make_study(tmp_path)
    work(study)
    code, out, _ = run("status", "small", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["study"], found["state"]) == ("small", "done")
    counts = study.queue.counts()
    expected = {"total": 10, "complete": counts.complete, "pruned": counts.pruned}
    expected |= {"failed": 0, "running": 0, "waiting": 0}
    assert expected.items() <= found["trials"].items()
    assert counts.complete + counts.pruned == 10
    for key, trials in (
        ("best", study.complete_trials()),
        ("best_schedule", study.complete_trials(constant=False)),
        ("best_constant", study.complete_trials(constant=True)),
    ):
        if not trials:
            assert found[key] is None
            continue
        assert set(found[key]) == {
            "number",
            "value",
            "plan",
            "among",
            "stopped_after",
            "stopped",
            "seeds",
            "error",
        }
        assert (found[key]["among"], found[key]["stopped"]) == (len(trials), 0)
        assert found[key]["number"] == trials[0].number
        assert found[key]["value"] == trials[0].value
        assert found[key]["plan"] == trials[0].user_attrs["plan"]
    assert found["trial_epochs"] == sum(len(t.intermediate_values) for t in study.trials())
    # Both numbers are rounded to three digits.
    half, epochs = 0.0005, found["trial_epochs"]
    assert found["seconds"] > half
    slowest = epochs / (found["seconds"] + half) - half
    fastest = epochs / (found["seconds"] - half) + half
    assert slowest <= found["trial_epochs_per_second"] <= fastest


def test_status_draws_the_best_so_far_beside_the_best_constant_so_far(run, tmp_path):
    study = make_study(tmp_path)
    work(study)
    plain = run("status", "small")[1]
    code, out, _ = run("status", "small", "--plot")
    assert code == 0
    assert out.startswith(plain)
    drawn = out.removeprefix(plain)
    ends = [t for t in study.trials() if t.state.is_finished()]
    assert "val_loss, best so far" in drawn
    assert "val_loss, best constant so far" in drawn
    assert drawn.count(f"trials ended: {len(ends)}\n") == 2
    assert drawn.count(f"{study.complete_trials()[0].value:.3g} ┤") == 2


def test_an_empty_study_says_that_there_is_nothing_to_draw(run, tmp_path):
    make_study(tmp_path)
    assert "no trial is complete yet: there is nothing to draw" in run("status", "--plot")[1]


def test_delete_removes_a_studys_pictures(run, tmp_path):
    study = make_study(tmp_path)
    work(study, best_trial_callback=DashboardArtifacts(study))
    folder = picture_store(study.database).path
    assert list(folder.iterdir())
    assert run("delete", "small", "--yes")[0] == 0
    assert not list(folder.iterdir())


def test_a_study_without_a_complete_trial_has_no_best(run, tmp_path):
    make_study(tmp_path)
    found = json.loads(run("status", "--json")[1])
    assert (found["state"], found["best"], found["best_constant"]) == ("stopped", None, None)
    assert found["trials"]["waiting"] == 1
    assert "no trial is complete yet" in run("list")[1]


def test_a_study_with_a_trial_in_training_is_running(run, tmp_path):
    claim(make_study(tmp_path), "ann")
    assert json.loads(run("status", "--json")[1])["state"] == "running"


def test_status_for_people_shows_plans_and_counts(run, tmp_path):
    work(make_study(tmp_path))
    lines = run("status")[1].splitlines()
    assert lines[0] == "study     small (done)"
    assert lines[1].startswith("trials    10 of 10 ended: ")
    assert "schedule  none complete" in lines
    [constant] = [line for line in lines if line.startswith("constant  val_loss ")]
    assert re.search(r"\), the best of \d after 9 epochs$", constant)
    assert sum(line.startswith("          lr: ") for line in lines) == 1


def test_one_of_several_studies_must_be_named(run, tmp_path):
    make_study(tmp_path)
    make_study(tmp_path, document() | {"name": "other"})
    code, _, err = run("status")
    assert code == 2
    assert err.splitlines() == [
        "error: several studies: other, small (hint: name one, such as `schedsearch status other`)"
    ]
    assert [line.split()[0] for line in run("list")[1].splitlines()] == ["other", "small"]
    assert [found["study"] for found in json.loads(run("list", "--json")[1])] == ["other", "small"]


@pytest.mark.parametrize("command", [["status"], ["list"], ["delete", "small", "--yes"]])
def test_a_missing_database_is_an_error_and_is_not_created(run, tmp_path, command):
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert "the database does not exist: create it with `schedsearch start`" in err
    assert not list(tmp_path.iterdir())


def test_delete_asks_first_and_refuses_a_study_in_training(run, tmp_path, monkeypatch):
    study = make_study(tmp_path)
    claim(study, "ann")
    code, _, err = run("delete", "small", "--yes")
    assert code == 2
    assert "study `small` is in training (trials running: 1): stop its workers first" in err
    study.queue.requeue_trials_of("ann")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert run("delete", "small") == (
        1,
        "",
        "Delete study small with its 1 trials? [y/N]: nothing was deleted\n",
    )
    code, _, err = run("delete", "small")  # no answer to the question
    assert (code, err.splitlines()[-1]) == (2, "error: no terminal to ask on: give --yes")
    assert run("status", "small")[0] == 0
    assert run("delete", "small", "--yes") == (0, "", "deleted study small\n")
    code, _, err = run("status", "small")
    assert (code, "has no study `small`: it has no studies" in err) == (2, True)


def test_cached_epochs_are_counted_apart_from_trained_ones(run, tmp_path):
    study = make_study(tmp_path)
    work(study)
    found = json.loads(run("status", "--json")[1])
    assert found["epochs_asked"] == found["epochs_trained"] == found["trial_epochs"]
    assert "reuse" not in run("status")[1]
    [first, *_] = study.trials()
    attributes = {"trained": 1, "plan": first.user_attrs["plan"]}
    study.load().add_trial(
        create_trial(value=1.0, intermediate_values={1: 2.0, 2: 1.0}, user_attrs=attributes)
    )
    after = json.loads(run("status", "--json")[1])
    assert after["epochs_asked"] == found["epochs_asked"] + 2
    assert after["epochs_trained"] == found["epochs_trained"] + 1
    assert first.number == 0
    assert f"reuse     {found['epochs_asked'] + 2} epochs requested, " in run("status")[1]


def test_a_trial_that_was_handed_back_counts_once(run, tmp_path):
    study = make_study(tmp_path)
    work(study)
    found = json.loads(run("status", "--json")[1])
    drawn = optimization_history(study.space, study.rows())
    # One worker trained an epoch, the next one the other eight.
    handed_back = create_trial(
        state=TrialState.FAIL, intermediate_values={1: 2.0}, user_attrs={SUPERSEDED_BY: 13}
    )
    continued = create_trial(
        value=1.0,
        intermediate_values=dict.fromkeys(range(1, 10), 1.0),
        user_attrs={"trained": 8, "plan": study.trials()[0].user_attrs["plan"]},
    )
    for trial in (handed_back, continued):
        study.load().add_trial(trial)
    after = json.loads(run("status", "--json")[1])
    for key in ("trial_epochs", "epochs_asked", "epochs_trained"):
        assert after[key] == found[key] + 9
    assert "reuse" not in run("status")[1]
    assert optimization_history(study.space, study.rows())[-1].epochs == drawn[-1].epochs + 9


def test_the_complete_trials_that_are_no_plan_of_their_own_are_counted(run, tmp_path):
    study = make_study(tmp_path)
    work(study)
    assert "          complete: " not in run("status")[1]
    first, compared = study.trials()[0], len(study.complete_trials())
    study.load().add_trial(
        create_trial(
            value=1.0, intermediate_values={1: 1.0}, user_attrs={"plan": first.user_attrs["plan"]}
        )
    )
    assert f"ended: {compared + 1} complete, " in run("status")[1]
    assert f"complete: {compared} constants, 1 trial with the plan of another\n" in run("status")[1]


def test_with_several_seeds_it_says_what_an_epoch_and_an_error_are(run, tmp_path):
    study = make_study(tmp_path, document(seeds=3))
    work(study)
    lines = run("status")[1].splitlines()
    epochs = sum(len(trial.intermediate_values) for trial in study.trials())
    assert any(line.startswith(f"epochs    {epochs}, each of 3 seeds, in ") for line in lines)
    [constant] = [line for line in lines if line.startswith("constant  ")]
    assert constant.endswith(", mean of 3 seeds ± standard error after 9 epochs")


def test_pauses_between_searches_do_not_count_as_training_time(run, tmp_path):
    study, noon = make_study(tmp_path), datetime(2026, 1, 1, 12)
    attributes = {"plan": study.space.baseline().to_tables()}
    for start, end in ((0, 10), (5, 20), (3600, 3610)):
        trial = create_trial(value=1.0, user_attrs=attributes)
        trial.datetime_start = noon + timedelta(seconds=start)
        trial.datetime_complete = noon + timedelta(seconds=end)
        study.load().add_trial(trial)
    assert json.loads(run("status", "--json")[1])["seconds"] == 30


class ThreeDaysBehind(datetime):
    """The clock of a host that differs from the database's."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) - timedelta(days=3)


def test_clocks_of_hosts_that_differ_by_days_do_not_change_the_seconds(run, tmp_path, monkeypatch):
    began, study = time.monotonic(), make_study(tmp_path)
    for worker, clock in (("right", datetime), ("behind", ThreeDaysBehind)):
        monkeypatch.setattr(rows, "datetime", clock)
        for part in ("retried", "running"):
            claim(study, f"{worker} {part}")
    monkeypatch.setattr(rows, "datetime", datetime)
    study.queue.requeue_trials_of("behind retried")
    monkeypatch.setattr(rows, "datetime", ThreeDaysBehind)
    study.queue.requeue_trials_of("right retried")
    work(study, should_stop=lambda: study.queue.counts().finished >= 8)
    seconds = json.loads(run("status", "--json")[1])["seconds"]
    assert 0 < seconds <= time.monotonic() - began + 0.005  # of rounding


def test_the_time_after_the_last_heartbeat_of_a_lost_worker_is_no_training_time(run, tmp_path):
    study = make_study(tmp_path)
    claim(study, "ann")
    with study.database.engine.begin() as connection:
        connection.execute(text("UPDATE trials SET datetime_start = '2026-01-01 00:00:00'"))
        connection.execute(text("UPDATE trial_heartbeats SET heartbeat = '2026-01-01 00:00:30'"))
    assert json.loads(run("status", "--json")[1])["seconds"] == 30
    assert study.queue.requeue_lost(timedelta(0)) == 1
    assert json.loads(run("status", "--json")[1])["seconds"] == 30


def test_status_shows_the_last_confirmation(run, tmp_path):
    study = make_study(tmp_path)
    work(study)
    assert json.loads(run("status", "--json")[1])["confirmation"] is None
    entry = {"number": 3, "mean": 0.5, "diverged": 0}
    baseline = {**entry, "number": 1, "mean": 0.7}
    against = {"number": 1, "difference": -0.2, "interval": [-0.3, -0.1], "wins": 8, "losses": 0}
    verdict = {"p": 0.01, "level": 0.95, "verdict": "better", "seeds_to_show": None}
    result = {
        "metric": "test_loss",
        "direction": "minimize",
        "test": True,
        "seeds": [1, 9],
        "baseline": baseline,
        "constants": [baseline],
        "plans": [{**entry, **against, "number": 3, **verdict, "against": [against]}],
    }
    study.database.optuna.set_study_user_attr(study.study_id, "confirmation", result)
    line = "trial 3: mean test_loss 0.5 against 0.7 of the best constant, trial 1, on 8 fresh seeds"
    assert f"confirm   {line}\n" in run("status")[1]
    assert json.loads(run("status", "--json")[1])["confirmation"] == line
    result["baseline"]["number"] = 99
    study.database.optuna.set_study_user_attr(study.study_id, "confirmation", result)
    assert (
        "; trial 1 was not part of it: run `schedsearch confirm small` again\n" in run("status")[1]
    )
