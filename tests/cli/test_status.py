"""`status`, `list` and `delete`: what they print, and what a program reads."""

from __future__ import annotations

import json

import pytest

from schedsearch.cli import main
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


def test_status_tells_programs_what_it_documents(run, tmp_path):
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
        ("best", study.complete()),
        ("best_constant", study.complete(constant=True)),
    ):
        assert set(found[key]) == {"number", "value", "plan"}
        assert found[key]["number"] == trials[0].number
        assert found[key]["value"] == trials[0].value
        assert found[key]["plan"] == trials[0].user_attrs["plan"]
    assert found["trial_epochs"] == sum(len(t.intermediate_values) for t in study.trials())
    rate = found["trial_epochs"] / found["seconds"]
    assert found["trial_epochs_per_second"] == pytest.approx(rate, rel=0.01)


def test_a_study_without_a_complete_trial_has_no_best(run, tmp_path):
    make_study(tmp_path)
    found = json.loads(run("status", "--json")[1])
    assert (found["state"], found["best"], found["best_constant"]) == ("stopped", None, None)
    assert found["trials"]["waiting"] == 1
    assert "no trial is complete yet" in run("list")[1]


def test_a_study_with_a_trial_in_training_is_running(run, tmp_path):
    make_study(tmp_path).queue.claim("ann", 10)
    assert json.loads(run("status", "--json")[1])["state"] == "running"


def test_status_for_people_gives_the_plans_and_the_counts(run, tmp_path):
    work(make_study(tmp_path))
    lines = run("status")[1].splitlines()
    assert lines[0] == "study     small (done)"
    assert lines[1].startswith("trials    10 of 10 ended: ")
    assert sum(line.startswith("          lr: ") for line in lines) == 2


def test_one_of_several_studies_must_be_named(run, tmp_path):
    make_study(tmp_path)
    make_study(tmp_path, document() | {"name": "other"})
    code, _, err = run("status")
    assert code == 2
    assert "name one of its studies: other, small" in err
    assert [line.split()[0] for line in run("list")[1].splitlines()] == ["other", "small"]
    assert [found["study"] for found in json.loads(run("list", "--json")[1])] == ["other", "small"]


@pytest.mark.parametrize("command", [["status"], ["list"], ["delete", "small", "--yes"]])
def test_a_missing_database_is_said_and_not_made(run, tmp_path, command):
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert "there is no such database: `schedsearch start` makes it" in err
    assert not list(tmp_path.iterdir())


def test_delete_asks_first_and_refuses_what_is_in_training(run, tmp_path):
    study = make_study(tmp_path)
    study.queue.claim("ann", 10)
    code, _, err = run("delete", "small", "--yes")
    assert code == 2
    assert "study `small` is in training, with 1 of its trials: stop its workers first" in err
    study.queue.hand_back_all_of("ann")
    assert run("delete", "small")[0] != 0  # nobody said yes
    assert run("status", "small")[0] == 0
    assert run("delete", "small", "--yes") == (0, "", "deleted study small\n")
    code, _, err = run("status", "small")
    assert (code, "has no study `small`: it has none" in err) == (2, True)
