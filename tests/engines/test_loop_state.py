"""The state of a run in a training loop's own checkpoint."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from schedsearch.engines import EpochResult, Resumed
from schedsearch.engines.loop import LoopContext, LoopEngine
from schedsearch.errors import SchedSearchError
from schedsearch.plan import Plan
from schedsearch.run import Run
from schedsearch.schedules import Exponential, ReduceOnPlateau
from schedsearch.space import Space
from schedsearch.training import train_to_end

PLAN = Plan({("lr",): ReduceOnPlateau(initial=0.5, patience=0, factor=0.5)})


class Noisy:
    """A loop that saves its state after each epoch, and resumes from one that is given."""

    def __init__(self, given=None, after_report=True):
        self.given, self.after_report = given, after_report
        self.saved, self.trained = {}, []
        self.hyperparameters = {"lr": 0.5}

    def __call__(self, run):
        position = 0.0
        if self.given is not None:
            position = self.given["position"]
            run.load_state_dict(self.given["run"])
        torch.rand(3)  # a setup that draws, unlike what it continues
        for epoch, hp in run:
            self.trained.append(epoch)
            draws = torch.rand(1).item() + np.random.rand() + random.random()
            position += hp["lr"] * draws
            if not self.after_report:
                self._save(epoch, position, run)
            run.report(val_loss=(position - 2) ** 2, terms={"fit": draws})
            if self.after_report:
                self._save(epoch + 1, position, run)

    def _save(self, epoch, position, run):
        state = {"position": position, "run": run.state_dict()}
        self.saved[epoch] = json.loads(json.dumps(state))


def make_run(loop, plan=PLAN, seed=3):
    space = Space.from_document(
        {
            "name": "noisy",
            "task": "tests.searches:train",
            "horizon": 6,
            "objective": {"metric": "val_loss"},
            "hyperparameters": {"lr": {"default": 0.5}},
        },
        "noisy.toml",
    )
    return Run(LoopEngine(loop, horizon=6), space=space, plan=plan, seed=seed)


@pytest.fixture
def whole():
    """Return a loop that has trained all epochs, and its run."""
    loop = Noisy()
    run = make_run(loop)
    train_to_end([run])
    run.leave_lane()
    return loop, run


@pytest.mark.parametrize("epoch", range(1, 7))
def test_a_run_continues_after_the_epochs_of_the_state_with_the_same_numbers(whole, epoch):
    first, undisturbed = whole
    loop = Noisy(first.saved[epoch])
    run = make_run(loop)
    train_to_end([run])
    run.leave_lane()
    assert run.history == undisturbed.history
    assert loop.trained == list(range(epoch, 6))
    assert (run.epochs_trained, run.epochs_replayed) == (6 - epoch, epoch)


@pytest.mark.parametrize("known", range(1, 6))
def test_epochs_of_the_history_after_the_state_are_trained_again(whole, known):
    first, undisturbed = whole
    loop = Noisy(first.saved[2])
    run = make_run(loop)
    for epoch in range(known):
        run._append(EpochResult(*(part[epoch] for part in parts(undisturbed))))
    train_to_end([run])
    run.leave_lane()
    assert run.history == undisturbed.history
    assert loop.trained == [2, 3, 4, 5]


def parts(run):
    return run.history.metrics, run.history.terms


def test_a_state_of_an_unfinished_epoch_begins_at_that_epoch():
    first = Noisy(after_report=False)
    run = make_run(first)
    train_to_end([run])
    run.leave_lane()
    state = first.saved[2]["run"]
    assert (state["epoch"], len(state["results"])) == (2, 2)


def test_a_run_that_was_resumed_saves_the_results_of_all_epochs(whole):
    first, _ = whole
    loop = Noisy(first.saved[3])
    run = make_run(loop)
    train_to_end([run])
    run.leave_lane()
    for epoch in (4, 5, 6):
        assert loop.saved[epoch]["run"] == first.saved[epoch]["run"]


@pytest.mark.parametrize(
    ("plan", "seed"),
    [(PLAN, 4), (Plan({("lr",): Exponential(initial=0.5, decay_rate=0.9)}), 3)],
)
def test_the_state_of_another_seed_or_plan_is_refused_in_one_line(whole, plan, seed):
    run = make_run(Noisy(whole[0].saved[2]), plan, seed)
    with pytest.raises(SchedSearchError, match="another plan, seed or horizon") as caught:
        train_to_end([run])
    run.leave_lane()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("epoch", [1, 5, 6])
def test_a_loop_that_ends_right_after_it_has_loaded_its_state_has_stopped_there(whole, epoch):
    first, undisturbed = whole

    def train(run):
        run.load_state_dict(first.saved[epoch]["run"])

    train.hyperparameters = {"lr": 0.5}
    run = make_run(train)
    train_to_end([run])
    run.leave_lane()
    assert run.history.metrics == undisturbed.history.metrics[:epoch]
    assert run.stopped is (epoch < 6)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"epoch": 7},
        {"epoch": -1},
        {"epoch": 2.0},
        {"epoch": 0},
        {"results": [[1]]},
        {"results": None},
        {"generators": {}},
        {"generators": {"torch": "?", "gpus": [], "numpy": [[], 0], "python": [3, [], None]}},
    ],
)
def test_what_is_no_state_is_refused(whole, broken):
    given = whole[0].saved[2]
    state = {**given, "run": {**given["run"], **broken} if broken else {}}
    run = make_run(Noisy(state))
    with pytest.raises(SchedSearchError, match=r"needs a state that run\.state_dict"):
        train_to_end([run])
    run.leave_lane()


def test_a_state_is_loaded_before_the_first_epoch_only():
    def train(run):
        for _ in run:
            run.load_state_dict(run.state_dict())

    train.hyperparameters = {}
    engine = LoopEngine(train, horizon=3)
    engine.fill(0, seed=0)
    [error] = engine.train_epoch([{}])
    assert "before the first epoch" in str(error)
    engine.release(0)


def test_the_engine_is_told_where_the_loop_continues():
    results = [EpochResult({"val_loss": 0.5}, {}), EpochResult({"val_loss": 0.25}, {"fit": 1.0})]

    def train(run):
        if run.seed == 1:
            run.load_state_dict(states[0])
        for _, hp in run:
            run.report(val_loss=hp["lr"])
            states.append({**run.state_dict(), "epoch": 2})
            states[-1]["results"] = [[dict(r.metrics), dict(r.terms)] for r in results]

    train.hyperparameters, states = {"lr": 0.0}, []
    engine = LoopEngine(train, horizon=3)
    engine.fill(0, seed=0)
    engine.train_epoch([{}])
    engine.fill(0, seed=1, context=LoopContext())
    assert list(engine.train_epoch([{"lr": 0.1}])) == [Resumed(2, results)]
    assert engine.train_epoch([{"lr": 0.2}])[0].metrics == {"val_loss": 0.2}
    engine.release(0)
