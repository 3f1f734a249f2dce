"""Lanes: the results of a run do not depend on its neighbours, and equal those of a run alone."""

import functools
import math
from types import MappingProxyType

import pytest
import torch
from torch import nn

from schedsearch.engines.lanes.engine import LanesEngine
from schedsearch.engines.precision import PrecisionSettings
from schedsearch.engines.sequential import SequentialEngine
from schedsearch.errors import SchedSearchError
from schedsearch.task import Splits, load_task
from schedsearch.tasks import BUILT_IN
from schedsearch.trajectories.snapshots import decode, encode
from tests.engines.test_contract import same_snapshot
from tests.engines.test_sequential import MOVING
from tests.engines.toys import LAYERS, TORCH_OPTIMIZERS, Toy


def toy(layers, optimizer):
    return lambda: Toy(layers, optimizer)


def shortened(name):
    def make():
        task = load_task(BUILT_IN[name])
        task.steps_per_epoch = 3
        return task

    return make


TASKS = {
    **{f"{layers} {name}": toy(layers, name) for layers in LAYERS for name in TORCH_OPTIMIZERS},
    "pooling adam": toy("pooling", "adam"),
    **{name: shortened(name) for name in BUILT_IN},
}
#: Compiling takes seconds per task: quick test runs compile two tasks, long ones all.
OFTEN = ("dropout adam", "noisy_digits")


def compiled_marks(name):
    """Return marks that put all tests of one compiled step into one process."""
    together = pytest.mark.xdist_group(f"{name} compiled")
    return [together] if name in OFTEN else [together, pytest.mark.long]


ENGINES = [
    *(pytest.param(name, False, id=name) for name in TASKS),
    *(
        pytest.param(name, True, id=f"{name} compiled", marks=compiled_marks(name))
        for name in TASKS
    ),
]


@functools.cache
def three_lanes(name, compiled):
    """One engine for all tests: building takes longer than training."""
    return LanesEngine(TASKS[name](), 3, compiled=compiled)


@pytest.fixture
def engine(name, compiled):
    engine = three_lanes(name, compiled)
    yield engine
    for lane in range(3):
        engine.release(lane)


def moving(task):
    """Return values that change from epoch to epoch."""
    defaults = task.hyperparameters
    return [{**defaults, "lr": defaults["lr"] / (epoch + 1)} for epoch in range(3)]


@pytest.mark.parametrize(("name", "compiled"), ENGINES)
def test_a_run_does_not_depend_on_its_lane_neighbours_nan_or_refills(engine):
    values = moving(engine.task)
    engine.fill(0, seed=1)
    alone = [engine.train_epoch([now, None, None])[0] for now in values]
    end, tested = engine.snapshot(0), engine.test(0)
    assert all(map(math.isfinite, alone[-1].metrics.values()))

    engine.fill(0, seed=1)
    engine.fill(1, seed=2)
    engine.fill(2, seed=1)
    among = [engine.train_epoch([{"lr": math.nan}, values[0], values[0]])[2]]
    engine.fill(1, seed=3)
    among.append(engine.train_epoch([values[0], values[0], values[1]])[2])
    engine.release(1)
    engine.fill(0, seed=1)
    among.append(engine.train_epoch([values[0], None, values[2]])[2])
    assert among == alone
    assert same_snapshot(engine.snapshot(2), end)
    assert engine.test(2) == tested


@pytest.mark.parametrize(("name", "compiled"), ENGINES)
def test_a_run_resumed_in_another_lane_gives_the_same_bits(engine):
    values = moving(engine.task)
    engine.fill(0, seed=1)
    engine.train_epoch([values[0], None, None])
    snapshot = engine.snapshot(0)
    rest = [engine.train_epoch([now, None, None])[0] for now in values[1:]]
    engine.fill(0, seed=2)
    engine.fill(1, seed=1, snapshot=snapshot)
    assert same_snapshot(engine.snapshot(1), snapshot)
    assert [engine.train_epoch([values[0], now, None])[1] for now in values[1:]] == rest


@pytest.mark.parametrize(("name", "compiled"), ENGINES)
def test_lanes_and_the_sequential_engine_agree_to_rounding(engine):
    alone = SequentialEngine(engine.task)
    alone.fill(0, seed=1)
    engine.fill(0, seed=2)
    engine.fill(1, seed=1)
    for now in moving(engine.task):
        [expected] = alone.train_epoch([now])
        _, result, _ = engine.train_epoch([{}, now, None])
        assert result.terms == pytest.approx(expected.terms, rel=1e-4)
        assert result.metrics == pytest.approx(expected.metrics, rel=1e-3, abs=0.01)


@pytest.mark.parametrize("optimizer", TORCH_OPTIMIZERS)
@pytest.mark.parametrize("layers", LAYERS)
def test_lanes_agree_with_changing_values_and_exchanged_snapshots(layers, optimizer):
    task = Toy(layers, optimizer)
    alone, lanes = SequentialEngine(task), LanesEngine(task, 2, compiled=False)
    alone.fill(0, seed=3)
    lanes.fill(1, seed=3)
    for now in MOVING:
        [expected] = alone.train_epoch([now])
        _, result = lanes.train_epoch([None, now])
        assert result.terms == pytest.approx(expected.terms, rel=1e-5)
        assert result.metrics == pytest.approx(expected.metrics, rel=1e-5)
        from_alone, from_lanes = alone.snapshot(0), lanes.snapshot(1)
        assert from_lanes.epoch == from_alone.epoch
        assert from_lanes.optimizer.keys() >= from_alone.optimizer.keys()
        for name, tensor in from_alone.model.items():
            torch.testing.assert_close(from_lanes.model[name], tensor, rtol=1e-4, atol=1e-6)
        lanes.fill(1, seed=3, snapshot=from_alone)
        alone.fill(0, seed=3, snapshot=from_lanes)


def test_each_run_trains_on_the_data_of_its_seed():
    task = Toy("dropout")
    alone, lanes = SequentialEngine(task), LanesEngine(task, 3, compiled=False)
    expected = []
    for lane, seed in enumerate((5, 6, 7)):
        lanes.fill(lane, seed)
        alone.fill(0, seed)
        expected += alone.train_epoch([{}])
    for result, other in zip(lanes.train_epoch([{}] * 3), expected, strict=True):
        assert result.terms == pytest.approx(other.terms, rel=1e-5)
        assert result.metrics == pytest.approx(other.metrics, rel=1e-5)


@pytest.mark.parametrize("layers", LAYERS)
def test_a_filled_lane_that_is_idle_does_not_change(layers):
    engine = LanesEngine(Toy(layers), 2, compiled=False)
    engine.fill(0, seed=1)
    engine.fill(1, seed=2)
    engine.train_epoch([{}, {}])
    waiting = engine.snapshot(0)
    assert engine.train_epoch([None, {}])[0] is None
    assert same_snapshot(engine.snapshot(0), waiting)


def test_a_diverged_run_has_nan_for_all_metrics_and_its_neighbour_has_numbers():
    task = Toy()
    task.steps_per_epoch = 1
    engine = LanesEngine(task, 2, compiled=False)
    engine.fill(0, seed=1)
    engine.fill(1, seed=1)
    diverged, well = engine.train_epoch([{"lr": math.inf}, {}])
    assert all(map(math.isfinite, diverged.terms.values()))
    assert all(map(math.isnan, diverged.metrics.values()))
    assert all(map(math.isfinite, well.metrics.values()))


def test_a_share_of_examples_is_exact():
    engine = LanesEngine(Toy(), 2, compiled=False)
    engine.fill(0, seed=1)
    far = engine.train_epoch([{}, None])[0].metrics["val_far"]
    assert far == round(far * 20) / 20


def test_values_equal_in_float32_have_one_key_and_train_alike():
    engine = LanesEngine(Toy(), 2, compiled=False)
    near, same, other = {"lr": 0.1}, {"lr": 0.1 + 1e-10}, {"lr": 0.1 + 1e-7}
    assert engine.key(near, 0) == engine.key(same, 0) != engine.key(other, 0)
    engine.fill(0, seed=1)
    engine.fill(1, seed=1)
    for values in ([near, same], [same, near]):
        first, second = engine.train_epoch(values)
        assert first == second


class Odd(nn.Module):
    """A model with tied, frozen and unused parameters, and buffers that it replaces."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.last = nn.Linear(3, 1)
        self.last.bias.requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(2))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("calls", torch.tensor(0), persistent=False)
        self.register_buffer("fixed", torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.second(torch.tanh(self.first(x)))
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * hidden.detach().mean(dim=0)
            self.calls += 1
        return self.last(hidden - self.mean * self.fixed) / (1 + self.calls)


class OddToy(Toy):
    def model(self, seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Odd()


@pytest.mark.parametrize(
    "engine",
    [SequentialEngine(OddToy()), LanesEngine(OddToy(), 2, compiled=False)],
    ids=["sequential", "lanes"],
)
def test_a_snapshot_includes_buffers_that_are_not_persistent(engine):
    idle = [None] * (engine.lanes - 1)
    engine.fill(0, seed=1)
    engine.train_epoch([{}, *idle])
    snapshot = decode(encode(engine.snapshot(0)))
    expected = engine.train_epoch([{}, *idle])
    engine.fill(0, seed=1, snapshot=snapshot)
    assert engine.train_epoch([{}, *idle]) == expected


def test_odd_models_train_as_a_run_alone():
    task = OddToy(optimizer="adamw")
    alone, lanes = SequentialEngine(task), LanesEngine(task, 2, compiled=False)
    alone.fill(0, seed=1)
    lanes.fill(1, seed=1)
    for now in MOVING:
        alone.train_epoch([now])
        lanes.train_epoch([None, now])
    expected, found = alone.snapshot(0), lanes.snapshot(1)
    assert found.model.keys() == expected.model.keys()
    assert found.optimizer.keys() == expected.optimizer.keys()
    for name, tensor in {**expected.model, **expected.optimizer}.items():
        other = {**found.model, **found.optimizer}[name]
        torch.testing.assert_close(other, tensor, rtol=1e-4, atol=1e-6)


def test_a_dropout_probability_may_be_a_hyperparameter():
    class Scheduled(Toy):
        hyperparameters = MappingProxyType({**Toy.hyperparameters, "rate": 0.5})

        def terms(self, model, batch, hp, noise):
            x = nn.functional.dropout(batch["x"], hp["rate"])
            return super().terms(model, {**batch, "x": x}, hp, noise)

    alone, lanes = SequentialEngine(Scheduled()), LanesEngine(Scheduled(), 2, compiled=False)
    for rate in (0.0, 0.3, 1.0):
        alone.fill(0, seed=1)
        lanes.fill(1, seed=1)
        [expected] = alone.train_epoch([{"rate": rate}])
        _, result = lanes.train_epoch([None, {"rate": rate}])
        assert result.metrics == pytest.approx(expected.metrics, rel=1e-5)


def test_an_exception_while_a_lane_is_filled_is_raised_and_the_others_can_train():
    class Breaks(Toy):
        def model(self, seed):
            if seed == 2:
                raise ZeroDivisionError("mine")
            return super().model(seed)

    engine = LanesEngine(Breaks(), 2, compiled=False)
    engine.fill(0, seed=1)
    with pytest.raises(ZeroDivisionError, match="mine"):
        engine.fill(1, seed=2)
    well, idle = engine.train_epoch([{}, None])
    assert math.isfinite(well.metrics["val_loss"])
    assert idle is None


def test_an_exception_in_a_step_is_the_result_of_each_lane_that_trained():
    class Lookup(Toy):
        def terms(self, model, batch, hp, noise):
            index = (hp["blur"] * 10).long()
            picked = torch.arange(10.0).index_select(0, index[None])
            return {**super().terms(model, batch, hp, noise), "picked": picked.sum()}

    engine = LanesEngine(Lookup(), 3, compiled=False)
    engine.fill(0, seed=1)
    engine.fill(1, seed=1)
    first, second, idle = engine.train_epoch([{"blur": 5.0}, {}, None])
    assert isinstance(first, IndexError | RuntimeError)
    assert second is first
    assert idle is None


def test_seeds_whose_data_has_another_layout_are_refused():
    class Growing(Toy):
        def data(self, seed):
            splits = super().data(seed)
            fewer = {name: tensor[seed:] for name, tensor in splits.validation.items()}
            return Splits(splits.train, fewer, splits.test)

    engine = LanesEngine(Growing(), 2, compiled=False)
    engine.fill(0, seed=1)
    with pytest.raises(SchedSearchError, match="the data of seed 2 has the layout"):
        engine.fill(1, seed=2)


def test_a_task_may_have_noise_and_no_training_data():
    class Collocation(Toy):
        steps_per_epoch = 3

        def data(self, seed):
            splits = super().data(seed)
            return Splits({}, splits.validation, splits.test)

        def terms(self, model, batch, hp, noise):
            assert not batch
            return {"fit": model(noise["blur"]).square().mean()}

    engine = LanesEngine(Collocation(), 2, compiled=False)
    engine.fill(0, seed=1)
    assert math.isfinite(engine.train_epoch([{}, None])[0].terms["fit"])


def test_the_users_code_runs_only_while_the_step_is_built():
    calls = []

    class Counted(Toy):
        def terms(self, model, batch, hp, noise):
            calls.append(model.training)
            return super().terms(model, batch, hp, noise)

    engine = LanesEngine(Counted(), 2, compiled=False)
    engine.fill(0, seed=1)
    built = len(calls)
    engine.fill(1, seed=2)
    engine.train_epoch([{}, {}])
    assert len(calls) == built
    assert all(calls)


@pytest.mark.parametrize("lanes", [1, 4])
def test_bfloat16_gives_other_results_that_are_as_repeatable(lanes):
    runs = []
    for autocast in (False, True, True):
        engine = LanesEngine(
            Toy(), lanes, precision=PrecisionSettings(autocast=autocast), compiled=False
        )
        engine.fill(lanes - 1, seed=1)
        runs.append(engine.train_epoch([*[None] * (lanes - 1), {}])[-1])
    assert runs[0] != runs[1] == runs[2]
    assert runs[0].metrics["val_loss"] == pytest.approx(runs[1].metrics["val_loss"], rel=0.05)


# CUDA runs on NVIDIA hardware only, and nothing that can be installed stands in for it. So this is
# the only skip that a full run accepts: with any other, conftest.py makes the run fail.
@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="this test trains on an NVIDIA GPU, and torch finds none on this machine; CUDA kernels "
    "run on no other hardware. test_contract.py checks the same contract on the CPU; with a GPU, "
    "run `pytest -m gpu`",
)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("layers", LAYERS)
def test_a_gpu_fulfils_the_same_contract(layers, compiled):
    task = Toy(layers)
    engine = LanesEngine(task, 3, device="cuda", compiled=compiled)
    values = moving(task)
    engine.fill(0, seed=1)
    alone = [engine.train_epoch([now, None, None])[0] for now in values]
    engine.fill(2, seed=1)
    engine.fill(0, seed=2)
    assert [engine.train_epoch([{"lr": math.nan}, None, now])[2] for now in values] == alone
    on_cpu = SequentialEngine(task)
    on_cpu.fill(0, seed=1)
    for now, result in zip(values, alone, strict=True):
        assert result.terms == pytest.approx(on_cpu.train_epoch([now])[0].terms, rel=1e-3)
