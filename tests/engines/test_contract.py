"""The contract of engines, tested on every engine."""

import functools
import math
import sys
from collections.abc import Callable, Mapping

import pytest
import torch

from schedsearch.engines import Engine, EpochResult, Snapshot, make_engine
from schedsearch.errors import SchedSearchError
from schedsearch.task import OptimizerName
from tests.engines.toys import Toy, train_toy

HORIZON = 4
#: Values that move, and that differ from the defaults.
VALUES = [
    {"lr": 0.05 / (epoch + 1), "momentum": 0.1 * epoch, "weights.penalty": 0.2, "blur": 0.1 * epoch}
    for epoch in range(HORIZON)
]

TOYS = (("plain", "sgd"), ("dropout", "adam"), ("batch_norm", "adamw"))
NUMERICS = {
    "sequential": {"engine": "sequential"},
    "lanes": {"engine": "lanes", "lanes": 3, "compiled": False},
    "compiled lanes": {"engine": "lanes", "lanes": 3, "compiled": True},
}


def toy_engine(layers: str, optimizer: OptimizerName, numerics: str) -> Callable[[], Engine]:
    # One engine for all tests: building lanes takes longer than training them.
    return functools.cache(
        lambda: make_engine(Toy(layers, optimizer), horizon=HORIZON, numerics=NUMERICS[numerics])
    )


MAKERS: dict[str, Callable[[], Engine]] = {
    "loop": lambda: make_engine(train_toy, horizon=HORIZON),
    **{
        f"{numerics} {layers} {optimizer}": toy_engine(layers, optimizer, numerics)
        for layers, optimizer in TOYS
        for numerics in NUMERICS
    },
}
LONG = {"compiled lanes plain sgd", "compiled lanes batch_norm adamw"}


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.long if name in LONG else ()) for name in MAKERS]
)
def engine(request):
    engine = MAKERS[request.param]()
    yield engine
    for lane in range(engine.lanes):
        engine.release(lane)


def train(engine: Engine, epochs: range, values=VALUES) -> list[EpochResult]:
    """Train lane 0 over some epochs, the other lanes idle."""
    idle = [None] * (engine.lanes - 1)
    return [engine.train_epoch([values[epoch], *idle])[0] for epoch in epochs]


def same_snapshot(a: Snapshot, b: Snapshot) -> bool:
    return a.epoch == b.epoch and all(
        same(x, y) for x, y in ((a.model, b.model), (a.optimizer, b.optimizer), (a.extra, b.extra))
    )


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_the_same_seed_and_values_give_the_same_results(engine):
    engine.fill(0, seed=1)
    first = train(engine, range(HORIZON))
    tested = engine.test(0)
    engine.fill(0, seed=2)
    other = train(engine, range(3))
    engine.fill(0, seed=1)
    assert train(engine, range(HORIZON)) == first
    assert engine.test(0) == tested
    assert other != first[:3]


def test_a_result_has_all_metrics_and_terms_as_finite_floats(engine):
    engine.fill(0, seed=1)
    for result in train(engine, range(HORIZON)):
        assert set(result.metrics) == {"val_loss", "val_far"}
        assert set(result.terms) == {"fit", "penalty"}
        assert all(
            type(value) is float and math.isfinite(value)
            for value in (*result.metrics.values(), *result.terms.values())
        )


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_a_run_resumed_from_a_snapshot_gives_the_same_bits(engine, epoch):
    engine.fill(0, seed=1)
    train(engine, range(epoch))
    snapshot = engine.snapshot(0)
    rest = train(engine, range(epoch, HORIZON))
    end, tested = engine.snapshot(0), engine.test(0)
    if epoch == 0 and snapshot is None:
        return  # A training loop has no checkpoint before its first epoch.
    for _ in range(2):
        engine.fill(0, seed=2)
        train(engine, range(1))
        engine.fill(0, seed=1, snapshot=snapshot)
        assert same_snapshot(engine.snapshot(0), snapshot)
        assert train(engine, range(epoch, HORIZON)) == rest
        assert same_snapshot(engine.snapshot(0), end)
        assert engine.test(0) == tested


def test_the_last_snapshot_can_be_tested_without_more_training(engine):
    engine.fill(0, seed=1)
    train(engine, range(HORIZON))
    snapshot, tested = engine.snapshot(0), engine.test(0)
    engine.fill(0, seed=1, snapshot=snapshot)
    assert engine.test(0) == tested
    assert set(tested) == {"test_loss", "test_far"}


def test_a_diverged_run_gives_nan_and_does_not_affect_the_next_run(engine):
    engine.fill(0, seed=1)
    well = train(engine, range(3))
    engine.fill(0, seed=1)
    [diverged] = train(engine, range(1), [{"lr": math.nan}])
    assert set(diverged.metrics) == {"val_loss", "val_far"}
    assert all(map(math.isnan, diverged.metrics.values()))
    engine.fill(0, seed=1)
    assert train(engine, range(3)) == well


def test_a_missing_hyperparameter_has_its_default(engine):
    defaults = [dict(Toy.hyperparameters)] * 2
    engine.fill(0, seed=1)
    spelled_out = train(engine, range(2), defaults)
    engine.fill(0, seed=1)
    assert train(engine, range(2), [{}, {}]) == spelled_out
    assert engine.key({}, 0) == engine.key(defaults[0], 0)


def test_keys_depend_on_the_values_and_not_on_their_order(engine):
    one, other = {"lr": 0.1, "blur": 0.2}, {"blur": 0.2, "lr": 0.1}
    assert engine.key(one, 0) == engine.key(other, 0)
    assert engine.key(one, 0) != engine.key({"lr": 0.2, "blur": 0.1}, 0)


def test_an_idle_lane_has_no_result_and_training_an_empty_lane_is_an_error(engine):
    assert engine.train_epoch([None] * engine.lanes) == [None] * engine.lanes
    assert isinstance(train(engine, range(1))[0], SchedSearchError)
    engine.fill(0, seed=1)
    engine.release(0)
    engine.release(0)
    assert isinstance(train(engine, range(1))[0], SchedSearchError)


def test_training_restores_the_settings_and_generators_of_torch(engine):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    engine.fill(0, seed=1)
    train(engine, range(2))
    engine.test(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert sys.float_info.min / 2 > 0
