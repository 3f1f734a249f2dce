"""The part of the callbacks that does not depend on the framework."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch

from schedsearch.engines import EpochResult
from schedsearch.engines.loop import LoopEngine
from schedsearch.errors import InputError, SchedSearchError, TrainingRefusedError
from schedsearch.integrations.driver import ScheduleDriver
from schedsearch.loss import WeightedLoss
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Constant

PLAN = Plan({("lr",): Constant(0.1)})


def in_a_run(body, epochs=1):
    """Train epochs with a loop that drives its run, and return their results."""

    def train(run):
        body(ScheduleDriver(run, "val_loss"))

    train.hyperparameters = {"lr": 0.1}
    engine = LoopEngine(train, horizon=3)
    engine.fill(0, seed=0)
    results = [engine.train_epoch([{}])[0] for _ in range(epochs)]
    engine.release(0)
    return results


def test_a_framework_that_stops_ends_the_run_with_what_it_reported():
    def body(driver):
        driver.source.next_epoch()
        driver.end_epoch({"val_loss": 0.5})
        driver.source.stop()
        assert not driver.source.next_epoch()
        with pytest.raises(SchedSearchError, match="the run has ended"):
            _ = driver.source.values

    assert in_a_run(body) == [EpochResult({"val_loss": 0.5}, {}, stopped=True)]


def test_a_framework_that_stops_after_the_next_epoch_has_begun_ends_the_run_with_the_last_report():
    def body(driver):
        driver.source.next_epoch()
        driver.end_epoch({"val_loss": 0.5})
        driver.source.next_epoch()
        driver.source.stop()

    results = in_a_run(body, epochs=2)
    assert results == [EpochResult({"val_loss": 0.5}, {}), EpochResult({}, {}, stopped=True)]


def test_the_state_of_a_run_is_not_loaded_into_a_scheduler_nor_the_other_way():
    scheduler = ScheduleDriver(Scheduler(PLAN, horizon=3), "val_loss")
    states = []

    def body(driver):
        with pytest.raises(InputError, match="has the state of a scheduler"):
            driver.load_state_dict(scheduler.state_dict())
        driver.source.next_epoch()
        driver.end_epoch({"val_loss": 0.5})
        states.append(driver.state_dict())

    in_a_run(body)
    with pytest.raises(InputError, match="has the state of a run of a search"):
        scheduler.load_state_dict(states[0])


@pytest.mark.parametrize("values", [[math.inf, -math.inf], [1e308, 1e308]])
def test_a_loss_term_whose_mean_is_not_a_number_ends_the_epoch_as_usual(values):
    def body(driver):
        driver.source.next_epoch()
        for value in values:
            driver.record_terms({"fit": value})
        driver.end_epoch({"val_loss": 0.5})

    [result] = in_a_run(body)
    assert result.metrics == {"val_loss": 0.5}
    assert math.isnan(result.terms["fit"])


@pytest.mark.parametrize("source", [object(), 42, PLAN])
def test_anything_but_a_scheduler_or_a_run_is_refused_at_once(source):
    with pytest.raises(InputError, match=rf"got {type(source).__name__}, .*\.scheduler\(\)"):
        ScheduleDriver(source, "val_loss")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("weights.kll", r"sets `weights\.kll`, but no WeightedLoss .* did you mean `kl`"),
        ("weights.content", None),
        ("dropout", None),
    ],
)
def test_on_values_takes_no_misspelt_weight_of_a_loss(name, words):
    plan = Plan({(name,): Constant(0.5), ("smoothing",): Constant(0.1)})
    driver = ScheduleDriver(Scheduler(plan, horizon=3), "val_loss", on_values=dict)
    with nullcontext() if words is None else pytest.raises(InputError, match=words):
        driver.check_targets(WeightedLoss(["recon", "kl"]), [])


def test_on_values_may_take_a_weight_beside_a_similar_one_that_the_plan_sets():
    plan = Plan({("weights.kl",): Constant(0.5), ("weights.kl2",): Constant(0.1)})
    driver = ScheduleDriver(Scheduler(plan, horizon=3), "val_loss", on_values=dict)
    driver.check_targets(WeightedLoss(["recon", "kl"]), [])


class Taking:
    """An `on_values` that reads one value, and may keep all of them."""

    def __init__(self, name, keeps):
        self.name, self.keeps = name, keeps

    def __call__(self, values):
        values.get(self.name)
        self.kept = values if self.keeps else None


SMOOTHING = Plan({("smoothing",): Constant(0.1), ("lr",): Constant(0.1)})


def started(on_values, model=None):
    driver = ScheduleDriver(Scheduler(SMOOTHING, horizon=3), "val_loss", on_values=on_values)
    model = model or torch.nn.Linear(1, 1)
    optimizers = [torch.optim.SGD(model.parameters(), lr=1.0)]
    driver.check_targets(model, optimizers)
    driver.apply(model, optimizers)
    return driver


def test_a_value_that_on_values_does_not_read_is_refused_before_the_first_step():
    started(Taking("smoothing", keeps=False)).end_epoch({"val_loss": 1.0})
    message = r'sets `smoothing`, but nothing .* let on_values read values\["smoothing"\]'
    with pytest.raises(TrainingRefusedError, match=message):
        started(Taking("smothing", keeps=False))


def test_values_that_on_values_keeps_must_be_read_by_the_end_of_the_first_epoch():
    later = Taking("lr", keeps=True)
    driver = started(later)
    assert later.kept["smoothing"] == 0.1
    driver.end_epoch({"val_loss": 1.0})
    driver = started(Taking("lr", keeps=True))
    with pytest.warns(UserWarning, match="sets `smoothing`, but nothing in this training takes"):
        driver.end_epoch({"val_loss": 1.0})
    driver.end_epoch({"val_loss": 1.0})  # said once
