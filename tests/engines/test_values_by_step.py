"""The contract of engines for values that change at each optimizer step."""

import functools
from collections.abc import Mapping

import pytest
import torch

from schedsearch.engines import Engine, EpochResult, make_engine
from schedsearch.engines.lanes.engine import LanesEngine, _by_step
from schedsearch.engines.lanes.optimizers import LANE_OPTIMIZERS
from schedsearch.engines.precision import pack_float32, pack_float64
from schedsearch.engines.sequential import SequentialEngine
from schedsearch.epoch_values import EpochValues
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Constant, Coupled, Exponential, Interval, Linear, Schedule
from tests.engines.test_contract import HORIZON, NUMERICS, same_snapshot
from tests.engines.toys import TORCH_OPTIMIZERS, Toy, train_toy

SCHEDULES: dict[tuple[str, ...], Schedule] = {
    ("lr",): Linear(0.05, 0.001),
    ("momentum",): Linear(0.1, 0.9),
    ("weight_decay",): Exponential(0.1, 0.5),
    ("weights.penalty",): Linear(0.5, 0.0, 2.5),
    ("blur",): Constant(0.2),
}
LANES = 3
compiled = pytest.mark.xdist_group("steps compiled")


def plan_values(
    schedules: Mapping[tuple[str, ...], Schedule], interval: Interval
) -> list[EpochValues]:
    """Return the values of each epoch of a plan."""
    plan = Plan(schedules, intervals={names[0]: interval for names in schedules})
    scheduler, values = Scheduler(plan, horizon=HORIZON), []
    for _ in range(HORIZON):
        values.append(scheduler.epoch_values)
        scheduler.step(0.5)
    return values


BY_STEP = plan_values(SCHEDULES, "step")
BY_EPOCH = plan_values(
    {**SCHEDULES, ("weights.penalty",): Linear(0.5, 0.0, 2), ("blur",): Constant(0.5)}, "epoch"
)


@functools.cache
def lanes_of(optimizer: str, is_compiled: bool = False) -> LanesEngine:
    return LanesEngine(Toy("plain", optimizer), LANES, compiled=is_compiled)


def train(engine: Engine, lane: int, epochs: range, values, others=None) -> list[EpochResult]:
    results = []
    for epoch in epochs:
        given = [others and others[epoch]] * engine.lanes
        given[lane] = values[epoch]
        results.append(engine.train_epoch(given)[lane])
    return results


@pytest.mark.parametrize("optimizer", TORCH_OPTIMIZERS)
def test_lanes_and_the_sequential_engine_agree(optimizer):
    alone, lanes = SequentialEngine(Toy("plain", optimizer)), lanes_of(optimizer)
    alone.fill(0, seed=3)
    for lane in range(LANES):
        lanes.fill(lane, seed=3)
    expected = train(alone, 0, range(HORIZON), BY_STEP)
    for found, result in zip(
        train(lanes, 1, range(HORIZON), BY_STEP, BY_EPOCH), expected, strict=True
    ):
        assert found.terms == pytest.approx(result.terms, rel=1e-4)
        assert found.metrics == pytest.approx(result.metrics, rel=1e-4)
    for name, tensor in alone.snapshot(0).model.items():
        torch.testing.assert_close(lanes.snapshot(1).model[name], tensor, rtol=1e-4, atol=1e-6)
    alone.fill(0, seed=3)
    held = train(alone, 0, range(HORIZON), [dict(values) for values in BY_STEP])
    assert held[-1].terms["fit"] != pytest.approx(expected[-1].terms["fit"], rel=1e-4)


@pytest.mark.parametrize("optimizer", TORCH_OPTIMIZERS)
@pytest.mark.parametrize("name", ["loop", "sequential", "lanes"])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_run_split_at_any_epoch_gives_the_same_bits(name, optimizer, epoch):
    if name == "loop":
        engine = make_engine(train_toy, horizon=HORIZON)
    elif name == "sequential":
        engine = make_engine(
            Toy("dropout", optimizer), horizon=HORIZON, numerics=NUMERICS["sequential"]
        )
    else:
        engine = lanes_of(optimizer)
    engine.fill(0, seed=1)
    train(engine, 0, range(epoch), BY_STEP)
    snapshot = engine.snapshot(0)
    rest = train(engine, 0, range(epoch, HORIZON), BY_STEP)
    end = engine.snapshot(0)
    engine.fill(0, seed=1, snapshot=snapshot)
    assert train(engine, 0, range(epoch, HORIZON), BY_STEP) == rest
    assert same_snapshot(engine.snapshot(0), end)
    engine.release(0)


@pytest.mark.parametrize(
    ("optimizer", "is_compiled"),
    [*((name, False) for name in TORCH_OPTIMIZERS), pytest.param("adam", True, marks=compiled)],
)
def test_a_lane_by_step_changes_no_bit_of_its_neighbours(optimizer, is_compiled):
    engine = lanes_of(optimizer, is_compiled)
    found = []
    for neighbours in (BY_EPOCH, BY_STEP):
        for lane in range(LANES):
            engine.fill(lane, seed=1)
        held = train(engine, 0, range(HORIZON), BY_EPOCH, neighbours)
        found.append((held, engine.snapshot(0)))
        for lane in range(LANES):
            engine.fill(lane, seed=1)
        moving = train(engine, 2, range(HORIZON), BY_STEP, neighbours)
        found.append((moving, engine.snapshot(2)))
    for before, after in (found[0::2], found[1::2]):
        assert before[0] == after[0]
        assert same_snapshot(before[1], after[1])


@pytest.mark.parametrize("optimizer", TORCH_OPTIMIZERS)
@pytest.mark.parametrize("lanes", [3, 20, 32])
def test_coefficients_of_a_held_value_have_the_same_bits_beside_a_moving_one(optimizer, lanes):
    # The last bit of a power depends on the layout of the tensors.
    steps = 18
    counts = (torch.arange(1, steps + 1)[:, None] + torch.arange(lanes) % 3).double()
    held = [0.9 + 0.1 * (lane + 0.5) / lanes for lane in range(lanes)]
    moving = [*held[:-1], tuple(held[-1] * step / steps for step in range(steps))]
    rows = []
    for momentum in (held, moving):
        table = {"lr": held, "weight_decay": held, "momentum": momentum}
        values = {name: _by_step(numbers, steps) for name, numbers in table.items()}
        rows.append(LANE_OPTIMIZERS[optimizer].coefficients(values, counts)[:, :, :-1])
    assert torch.equal(*rows)


@compiled
def test_the_compiled_step_stays_one_graph_when_a_value_begins_to_move():
    engine = lanes_of("adam", True)
    for lane in range(LANES):
        engine.fill(lane, seed=1)
    train(engine, 0, range(1), BY_EPOCH, BY_EPOCH)
    with torch.compiler.set_stance("fail_on_recompile"):
        [result] = train(engine, 0, range(1, 2), BY_STEP, BY_EPOCH)
    assert isinstance(result, EpochResult)


ENGINES = {
    "loop": lambda: make_engine(train_toy, horizon=HORIZON),
    "sequential": lambda: SequentialEngine(Toy()),
    "lanes": lambda: lanes_of("adam"),
}


@pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES)
def test_a_constant_by_step_has_the_key_and_the_bits_of_a_constant_by_epoch(make):
    engine = make()
    constants = {names: Constant(0.05) for names in SCHEDULES}
    by_step, by_epoch = (plan_values(constants, interval) for interval in ("step", "epoch"))
    assert engine.key(by_step[0], 0) == engine.key(by_epoch[0], 0)
    results = []
    for values in (by_step, by_epoch):
        engine.fill(0, seed=1)
        results.append(train(engine, 0, range(1), values))
    assert results[0] == results[1]
    engine.release(0)


def test_the_key_of_a_loop_names_the_value_that_moves():
    engine = make_engine(train_toy, horizon=HORIZON)
    same = {("lr",): Exponential(0.5, 0.5), ("blur",): Exponential(0.5, 0.5)}
    plans = [Plan(same, intervals={name: "step"}) for name in ("lr", "blur")]
    one, other = (engine.key(Scheduler(plan, horizon=HORIZON).epoch_values, 0) for plan in plans)
    assert one != other


@pytest.mark.parametrize("pack", [pack_float32, pack_float64])
def test_packed_values_tell_which_of_them_has_several(pack):
    """The numbers, in the order of the names, are the same."""
    assert pack({"blur": (0.25, 0.5), "lr": 1.0}) != pack({"blur": 0.25, "lr": (0.5, 1.0)})


def test_packed_values_by_the_step_have_the_precision_of_the_engine():
    values = [{"lr": (0.1, 0.2)}, {"lr": (0.1 + 1e-12, 0.2)}]
    assert pack_float32(values[0]) == pack_float32(values[1])
    assert pack_float64(values[0]) != pack_float64(values[1])


@pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES)
def test_keys_are_equal_only_if_all_values_within_the_epoch_are(make):
    engine = make()
    engine.fill(0, seed=1)
    halving = Exponential(0.5, 0.5)
    schedules = {("blur",): halving, ("lr",): Coupled(halving, "blur")}
    plans = [
        Plan(schedules, intervals={"lr": "step"}),
        Plan(schedules, intervals={"lr": "step", "blur": "step"}),
        Plan(schedules, intervals={"blur": "step"}),
        Plan(schedules),
        Plan({**schedules, ("lr",): Linear(0.25, 0.0)}, intervals={"lr": "step"}),
        Plan({**schedules, ("lr",): Linear(0.25, 0.1)}, intervals={"lr": "step"}),
        Plan(schedules, bounds={"lr": (0.2, 1.0)}, intervals={"lr": "step"}),
    ]
    firsts = [Scheduler(plan, horizon=HORIZON).epoch_values for plan in plans]
    assert len({tuple(values.values()) for values in firsts}) == 1
    assert len({engine.key(values, 0) for values in firsts}) == len(plans)
    again = Scheduler(plans[0], horizon=HORIZON).epoch_values
    assert engine.key(again, 0) == engine.key(firsts[0], 0)
    engine.release(0)
