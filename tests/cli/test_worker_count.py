"""How many workers `start`, `confirm` and `explain` begin if the user does not say."""

from __future__ import annotations

import pytest

from schedsearch.cli.worker_count import workers_for_search, workers_that_fit
from schedsearch.storage import get_only_study, open_database
from tests.cli.command import Command
from tests.searches import document, url_of, write_space

LANES = {"engine": "lanes", "device": "cpu", "threads": 1}


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr("schedsearch.cli.worker_count.available_cores", lambda: 8)


@pytest.mark.parametrize(
    ("trials", "workers"), [(1, 1), (19, 1), (20, 2), (79, 7), (80, 8), (10_000, 8)]
)
def test_a_long_search_of_a_task_fills_the_cores(trials, workers):
    assert workers_for_search(LANES, trials) == workers


def test_a_worker_takes_as_many_cores_as_it_has_threads():
    assert workers_for_search({**LANES, "threads": 4}, 10_000) == 2
    assert workers_for_search({**LANES, "threads": 16}, 10_000) == 1


def test_a_worker_of_several_processes_takes_as_many_cores():
    loop = {"engine": "loop", "device": "cpu", "threads": 2, "processes": 2}
    assert workers_that_fit(loop, 100) == 2


@pytest.mark.parametrize("other", [{"engine": "loop"}, {"device": "cuda"}])
def test_a_training_loop_and_a_gpu_have_one_worker(other):
    assert workers_for_search({**LANES, **other}, 10_000) == 1


def test_fresh_runs_fill_the_cores_too():
    assert [workers_that_fit(LANES, most) for most in (0, 1, 5, 100)] == [1, 1, 5, 8]


@pytest.mark.long
def test_start_begins_two_workers_for_twenty_trials_and_one_for_the_last(
    tmp_path, monkeypatch, capsys
):
    path = write_space(tmp_path, document() | {"task": "tests.engines.toys:Toy", "horizon": 1})
    run = Command(monkeypatch, capsys)
    flags = (path, "--storage", url_of(tmp_path), "--threads", "1", "--lanes", "1")
    assert "starting 2 workers" in run("start", *flags, "--trials", "21").err
    assert get_only_study(open_database(url_of(tmp_path))).queue.counts().finished == 21
    assert "starting 1 worker " in run("start", *flags, "--trials", "25").err
