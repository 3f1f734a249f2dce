"""Training a run to its end: its value, its model, and the summary of its trial."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from schedsearch.engines import make_engine
from schedsearch.engines.loop import LoopEngine
from schedsearch.errors import TaskError
from schedsearch.run import Run
from schedsearch.space import Space
from schedsearch.training import fresh_seeds, search_seeds, train_to_end
from schedsearch.worker.summary import summary
from tests import scripted
from tests.engines.toys import Toy
from tests.searches import DEFAULTS, document, train


@dataclass
class Reports:
    """A training loop that reports given metrics, and its epoch as its state."""

    metrics: tuple[float, ...]
    hyperparameters = DEFAULTS

    def __call__(self, run: Any) -> None:
        epoch = -1
        for epoch, _ in run:
            run.report(val_loss=self.metrics[epoch], terms={"fit": 1 / 3})
            run.checkpoint({"epoch": epoch})
        run.test(epoch=run.restored["epoch"] if run.restored else epoch)


@pytest.fixture
def run_of() -> Iterator[Callable[..., Run]]:
    """Return a function that makes runs with given metrics; their loops end after the test."""
    runs: list[Run] = []

    def run_of(*metrics: float, keep_best: bool = False, **objective: str) -> Run:
        content = document() | {"horizon": len(metrics)}
        content["objective"] |= objective
        space = Space.from_document(content, "small.toml").with_defaults(DEFAULTS)
        engine = LoopEngine(Reports(metrics), horizon=len(metrics))
        run = Run(engine, space=space, plan=space.baseline(), seed=0, keep_best=keep_best)
        runs.append(run)
        return run

    yield run_of
    for run in runs:
        run.leave_lane()


@pytest.mark.parametrize(
    ("objective", "value"),
    [
        ({"value": "last"}, 0.5),
        ({"value": "best"}, 0.2),
        ({"value": "best", "direction": "maximize"}, 0.9),
    ],
)
def test_the_value_is_that_of_the_last_or_the_best_epoch(run_of, objective, value):
    run = run_of(0.9, 0.2, 0.5, **objective)
    train_to_end([run])
    assert run.value == value
    assert run.metric == 0.5


def test_a_run_of_the_best_epoch_is_tested_with_that_epochs_model(run_of):
    run = run_of(0.9, 0.2, 0.5, value="best", keep_best=True)
    train_to_end([run])
    model = run.model_snapshot()
    assert model is not None
    assert (model.epoch, model.extra["state"]) == (2, {"epoch": 1})
    assert run.test() == {"test_epoch": 1}


def test_training_ends_where_the_run_diverges(run_of):
    run = run_of(0.9, math.nan, 0.5, value="best")
    train_to_end([run])
    assert run.epochs == 2
    assert math.isnan(run.metric)
    assert run.value == 0.9


def test_the_summary_of_runs_is_json_and_constants_are_one_number(run_of):
    run = run_of(0.9, math.nan)
    train_to_end([run])
    kept = summary([run])
    assert kept == {
        "values": {"lr": 0.1},
        "terms": {"fit": 0.333333},
        "runs": [{"seed": 0, "value": None}],
    }
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept


def test_cached_epochs_are_not_trained_again():
    writer = scripted.ListCursor()
    cursor = scripted.cached_by(scripted.run_of(scripted.engine_of(), writer), writer, 4)
    cursor.saved.append(3)
    engine = scripted.engine_of()
    run = scripted.run_of(engine, cursor)
    train_to_end([run])
    assert engine.trained == [4, 5, 6]
    assert run.epochs == scripted.HORIZON


def test_a_run_that_was_cached_to_its_end_is_in_its_lane_at_its_end():
    """The lane catches up even if no epoch has to be trained for the history."""
    run, engine, _ = scripted.replayed(scripted.HORIZON)
    train_to_end([run])
    assert not run.is_catching_up
    assert run.test() == {"test_epoch": scripted.HORIZON}
    assert engine.trained == list(range(1, scripted.HORIZON + 1))


def test_a_task_is_trained_alike_by_two_engines():
    content = document() | {"task": "tests.engines.toys:Toy", "horizon": 4}
    space = Space.from_document(content, "small.toml").with_defaults(Toy.hyperparameters)
    values = []
    for _ in range(2):
        engine = make_engine(Toy(), horizon=4)
        run = Run(engine, space=space, plan=space.baseline(), seed=3)
        train_to_end([run])
        values.append(run.history.objective("val_loss"))
    assert values[0] == values[1]
    assert len(set(values[0])) == 4


def test_fresh_seeds_are_not_seeds_of_the_search():
    space = Space.from_document(document(seeds=50, seed=7), "small.toml")
    assert search_seeds(space)[0] == 7
    assert not set(search_seeds(space)) & set(fresh_seeds(space, 50))


def test_the_best_epochs_model_needs_a_checkpoint_in_that_epoch():
    content = document()
    content["objective"]["value"] = "best"
    space = Space.from_document(content, "small.toml")
    engine = LoopEngine(train, horizon=space.horizon)
    run = Run(engine, space=space, plan=space.baseline(), seed=0, keep_best=True)
    with pytest.raises(TaskError, match=r"gave no checkpoint in epoch 1.*run\.checkpoint"):
        train_to_end([run])
    run.leave_lane()


def test_the_summary_stays_small_for_a_long_horizon():
    content = document(train)
    content["horizon"] = 4000
    space = Space.from_document(content, "small.toml")
    run = Run(LoopEngine(train, horizon=4000), space=space, plan=space.baseline(), seed=0)
    train_to_end([run])
    kept = summary([run])
    run.leave_lane()
    assert kept["every"] == 8
    assert len(kept["terms"]["fit"]) == 500
    assert len(json.dumps(kept)) < 10_000
