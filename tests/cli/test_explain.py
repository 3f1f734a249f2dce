"""`explain`: its output for people and for programs, its picture, and the simplest plan."""

from __future__ import annotations

import json
import tomllib

import pytest

from schedsearch.supervision import SupervisionResult
from tests.cli.command import Command
from tests.explanation import tasks
from tests.explanation.tasks import content_of, explained, searched, with_both
from tests.searches import url_of, work


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Command:
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


def test_it_answers_programs_and_people_and_its_answer_is_drawn_and_exported(run, tmp_path):
    study = searched(tmp_path, content_of(tasks.train_by_decay))
    refused = run("export", "small", "--simplest")
    assert refused.status == 2
    assert "study small has no explanation yet: run `schedsearch explain small`" in refused.err

    number = with_both(study)
    result = explained(study, trial=number)
    flags = ("--trial", number, "--seeds", 12)
    done = run("explain", "small", *flags, "--json")
    assert (done.status, json.loads(done.out)["comparisons"]) == (0, result["comparisons"])
    told = run("explain", "small", *flags).out.splitlines()
    questions = [line for line in told if line.endswith("?")]
    assert questions[1:] == [
        "which schedule carries the gain?",
        "does it have to follow the training?",
        "would a simpler schedule do?",
    ]
    assert told[-1].startswith("  a simpler plan does: lr = ")

    done = run("export", "small", "--simplest", "-o", "simple.toml")
    assert done.status == 0
    assert "wrote simple.toml: a simpler plan, test_loss " in done.err
    assert "(mean of 12 fresh seeds), val_loss " in done.err
    assert f"simpler than trial {number} and not worse by " in done.err
    simple = tomllib.loads((tmp_path / "simple.toml").read_text())
    assert simple["source"]["explanation"]["trial"] == number
    assert run("export", "small", "--simplest", "--trial", 3).status == 2

    assert run("plot", "small/explanation", "-o", "explanation.svg").status == 0
    assert (tmp_path / "explanation.svg").exists()
    assert f"explain   trial {number}: the schedule of lr matters" in run("status", "small").out
    assert "small:explain  explains small  " in run("list").out
    assert json.loads(run("list", "--json").out)[-1]["explains"] == "small"
    assert "deleted study small and small:explain" in run("delete", "small", "--yes").err


def test_its_timeout_is_that_of_all_stages(run, tmp_path, monkeypatch):
    content = content_of(tasks.train_by_decay, trials=20)
    del content["hyperparameters"]["reg"]
    searched(tmp_path, content)
    timeouts = []

    def supervise(study, group, display, redraw):
        timeouts.append(group.timeout)
        work(study)
        return SupervisionResult(exit_code=0, interrupted=False, timed_out=False)

    monkeypatch.setattr("schedsearch.cli.fresh_runs.supervise", supervise)
    assert run("explain", "small", "--seeds", 8, "--timeout", 1000).status == 0
    assert len(timeouts) == 2
    assert 1000 > timeouts[0] > timeouts[1]
    timeouts.clear()
    assert run("explain", "small", "--seeds", 9).status == 0
    assert timeouts == [None, None]


def test_with_no_worker_the_runs_are_queued_and_few_seeds_are_refused(run, tmp_path):
    study = searched(tmp_path, content_of(tasks.train_by_decay))
    number = with_both(study)
    done = run("explain", "small", "--trial", number, "--seeds", 12, "--workers", 0)
    assert done.status == 0
    assert (
        "48 runs are queued: train them with `schedsearch worker small:explain`, and then judge "
        f"them with `schedsearch explain small --trial {number} --seeds 12`"
    ) in done.err
    flags = ("--trial", number, "--seeds", 12, "--margin", 0.25)
    done = run("explain", "small", *flags, "--workers", 0)
    assert f"`schedsearch explain small {' '.join(map(str, flags))}`" in done.err
    few = run("explain", "small", "--trial", number, "--seeds", 6)
    assert few.status == 2
    assert few.err.startswith("error: --seeds is 6, but must be at least ")
