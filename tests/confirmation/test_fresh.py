"""Trainings in processes of their own: what comes back, and that nobody stays behind."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Mapping

import pytest

from schedsearch.confirmation.fresh import train_all
from schedsearch.confirmation.runs import Job, Outcome, Recipe, StoppedError
from schedsearch.errors import SchedSearchError
from schedsearch.numerics import current_numerics
from schedsearch.space import Space
from tests import searches
from tests.confirmation import tasks
from tests.confirmation.tasks import FRESH, content_of
from tests.searches import DEFAULTS, document

pytestmark = pytest.mark.long


def job(lr: float, seed: int = 0) -> Job:
    tables = {"lr": {"families": {"constant": {"value": lr}}}}
    return Job({"hyperparameters": tables}, seed)


def outcomes(content: dict, *jobs: Job, workers: int = 1, stop=None):
    space = Space.from_document(content, "small.toml").with_defaults(DEFAULTS)
    recipe = Recipe(space.to_document(), current_numerics("loop"), "fingerprint", None)
    found: dict[int, Outcome] = {}
    trained: list[int] = []

    def keep(ended: Mapping[int, Outcome]) -> None:
        assert not found.keys() & ended.keys()
        found.update(ended)

    try:
        train_all(
            recipe,
            jobs,
            workers=workers,
            ended=keep,
            trained=trained.append,
            should_stop=stop or (lambda: False),
        )
        assert trained == sorted(trained)
        assert trained[-1] == len(jobs) * space.horizon
        return [found[place] for place in range(len(jobs))]
    finally:
        assert multiprocessing.active_children() == []


def test_each_outcome_comes_with_the_place_of_its_job_however_many_processes():
    jobs = [job(lr, seed) for seed in (3, 1) for lr in (0.5, 0.25)]
    found = outcomes(document(), *jobs, workers=2)
    expected = [(5.0 + j.seed, j.plan["hyperparameters"]["lr"]) for j in jobs]
    lrs = [table["families"]["constant"]["value"] for _, table in expected]
    distances = [d * (1 - lr) ** 9 for (d, _), lr in zip(expected, lrs, strict=True)]
    assert [o.test for o in found] == pytest.approx(distances, rel=1e-12)
    sums = [distance + lr for distance, lr in zip(distances, lrs, strict=True)]
    assert [o.validation for o in found] == pytest.approx(sums, rel=1e-12)
    assert [len(o.epochs) for o in found] == [9] * 4
    assert [o.epochs[-1] for o in found] == [o.validation for o in found]


def test_a_diverged_run_is_nan_and_a_loop_without_a_test_has_none():
    diverged, well = outcomes(document(searches.train_to_nan), job(0.6), job(0.4))
    assert math.isnan(diverged.validation)
    assert diverged.test is not None
    assert math.isnan(diverged.test)
    assert well == Outcome(0.4, None)


def test_what_the_task_raises_is_one_line_with_the_seed():
    content = content_of(tasks.train_and_raise_when_fresh)
    with pytest.raises(SchedSearchError) as caught:
        outcomes(content, job(0.5, FRESH), job(0.5, FRESH))
    task = "tests.confirmation.tasks:train_and_raise_when_fresh"
    said = f"{task} raised ZeroDivisionError: something of the user's own (seed {FRESH})"
    assert (str(caught.value), caught.value.exit_code) == (said, 1)


def test_a_killed_process_is_said_and_the_others_end():
    content = content_of(tasks.train_and_die_when_fresh)
    with pytest.raises(SchedSearchError, match="a worker process was killed: is there memory"):
        outcomes(content, job(0.5, 0), job(0.5, FRESH), workers=2)


def test_asked_to_stop_the_processes_end_after_their_epoch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = content_of(tasks.train_slowly_when_fresh) | {"horizon": 100_000}
    begun = tmp_path / "begun"
    with pytest.raises(StoppedError, match="stopped before all runs were done"):
        outcomes(content, job(0.5, FRESH), job(0.5, FRESH), stop=begun.exists)
