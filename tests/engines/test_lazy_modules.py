"""Models without shapes before the first batch train alike in lanes and alone."""

import pytest
import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from schedsearch.engines.batching import why_not_batched
from schedsearch.engines.lanes.engine import LanesEngine
from schedsearch.engines.precision import DEFAULT_PRECISION
from schedsearch.engines.sequential import SequentialEngine
from schedsearch.engines.task_adapter import TaskAdapter
from schedsearch.errors import SchedSearchError, TaskError
from schedsearch.task import check_task
from tests.engines.toys import Toy

MOVING = [{"lr": 0.05 / (epoch + 1), "blur": 0.1 * epoch} for epoch in range(3)]
CPU = torch.device("cpu")


class Scale(nn.Module):
    """A module whose parameter and buffer are shaped by their first input."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = UninitializedParameter()
        self.register_buffer("start", UninitializedBuffer())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.factor, UninitializedParameter):
            self.factor.materialize(x.shape[1:])
            self.start.materialize(x.shape[1:])
            with torch.no_grad():
                self.factor.normal_()
                self.start.copy_(x.detach()[0])
        return x * self.factor + self.start


class TrainingOnly(nn.Module):
    """A module with a part that is used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.auxiliary = nn.LazyLinear(1), nn.LazyLinear(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x) + self.auxiliary(x) if self.training else self.main(x)


class AllBuiltLater(nn.Module):
    """A module that creates its only layer in its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.only: nn.Module | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.only is None:
            self.only = nn.Linear(x.shape[1], 1)
        return self.only(x)


class BuiltLater(nn.Module):
    """A module that creates its layer in its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.last: nn.Module | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.first(x))
        if self.last is None:
            self.last = nn.Linear(hidden.shape[1], 1)
        return self.last(hidden)


class Replaced(nn.Module):
    """A module that replaces a layer in its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 1)
        self.is_new = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.is_new:
            self.last, self.is_new = nn.Linear(3, 1), False
        return self.last(x)


class Unused(nn.Module):
    """A module with a layer that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.LazyLinear(1), nn.LazyLinear(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


MODELS = {
    "linear": lambda: nn.Sequential(nn.LazyLinear(8), nn.Dropout(0.5), nn.ReLU(), nn.LazyLinear(1)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 1, 3)),
        nn.LazyConv2d(4, kernel_size=(1, 2)),
        nn.Flatten(),
        nn.ReLU(),
        nn.LazyLinear(1),
    ),
    # No bias: the normalisation removes it.
    "batch norm": lambda: nn.Sequential(
        nn.LazyLinear(8, bias=False), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(1)
    ),
    "my module": lambda: nn.Sequential(Scale(), nn.Linear(3, 1)),
    "in training only": TrainingOnly,
}


class LazyToy(Toy):
    """A toy without shapes; its model does not seed torch."""

    def __init__(self, make) -> None:
        super().__init__()
        self.make = make

    def model(self, seed):
        return self.make()


def adapter(task):
    return TaskAdapter(task, CPU, DEFAULT_PRECISION, lanes=1)


def train(engine, lane, epochs):
    idle = [None] * engine.lanes
    return [engine.train_epoch([*idle[:lane], now, *idle[lane + 1 :]])[lane] for now in epochs]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_without_shapes_can_be_batched_and_agrees_with_training_alone(name):
    task = LazyToy(MODELS[name])
    assert why_not_batched(task) is None
    alone, lanes = SequentialEngine(task), LanesEngine(task, 2, compiled=False)
    alone.fill(0, seed=1)
    lanes.fill(1, seed=1)
    for key, tensor in alone.snapshot(0).model.items():
        assert torch.equal(lanes.snapshot(1).model[key], tensor)
    expected, found = train(alone, 0, MOVING), train(lanes, 1, MOVING)
    for one, other in zip(expected, found, strict=True):
        assert other.metrics == pytest.approx(one.metrics, rel=1e-3)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["sequential", "lanes"])
def test_a_model_without_shapes_trains_like_one_with_shapes_and_resumes_with_the_same_bits(
    name, kind
):
    """The model with shapes is a copy of the materialized one."""

    class Shaped(LazyToy):
        def model(self, seed):
            return adapter(LazyToy(self.make)).make_model(seed)

    def engine(task):
        is_lanes = kind == "lanes"
        return LanesEngine(task, 2, compiled=False) if is_lanes else SequentialEngine(task)

    lazy, shaped = engine(LazyToy(MODELS[name])), engine(Shaped(MODELS[name]))
    for each in (lazy, shaped):
        each.fill(0, seed=1)
    assert train(lazy, 0, MOVING) == (expected := train(shaped, 0, MOVING))
    lazy.fill(0, seed=1)
    train(lazy, 0, MOVING[:1])
    snapshot = lazy.snapshot(0)
    lazy.fill(0, seed=2)
    lazy.fill(0, seed=1, snapshot=snapshot)
    assert train(lazy, 0, MOVING[1:]) == expected[1:]


def test_the_parameters_depend_on_the_seed_and_on_nothing_else():
    task = LazyToy(MODELS["linear"])
    first = adapter(task).make_model(1).state_dict()
    torch.rand(5)
    again, other = adapter(task).make_model(1), adapter(task).make_model(2)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in first.items())
    assert not torch.equal(other.state_dict()["0.weight"], first["0.weight"])


def test_giving_shapes_neither_updates_running_means_nor_leaves_evaluation_mode():
    model = adapter(LazyToy(MODELS["batch norm"])).make_model(1)
    assert model.training
    assert model[1].running_mean.tolist() == [0.0] * 8
    assert int(model[1].num_batches_tracked) == 0


def test_a_layer_created_by_a_step_is_trained_alone_and_named_as_the_reason_against_lanes():
    task = LazyToy(BuiltLater)
    assert why_not_batched(task) == (
        "a step creates parameters of the model (last.weight, last.bias): create them when the "
        "model is made, or use torch's lazy modules"
    )
    engine = SequentialEngine(task)
    engine.fill(0, seed=1)
    train(engine, 0, MOVING[:1])
    snapshot = engine.snapshot(0)
    rest = train(engine, 0, MOVING[1:])
    trained = engine.snapshot(0).model["last.weight"]
    assert not torch.equal(trained, snapshot.model["last.weight"])
    engine.fill(0, seed=2)
    engine.fill(0, seed=1, snapshot=snapshot)
    assert train(engine, 0, MOVING[1:]) == rest


def test_a_model_without_a_parameter_before_its_first_step_is_trained_alone_and_in_lanes():
    task = LazyToy(AllBuiltLater)
    assert why_not_batched(task) is None
    engine = SequentialEngine(task)
    engine.fill(0, seed=1)
    train(engine, 0, MOVING[:1])
    before = engine.snapshot(0)
    rest = train(engine, 0, MOVING[1:])
    assert not torch.equal(before.model["only.weight"], engine.snapshot(0).model["only.weight"])
    engine.fill(0, seed=1, snapshot=before)
    assert train(engine, 0, MOVING[1:]) == rest


def test_a_layer_that_a_step_replaces_is_trained():
    engine = SequentialEngine(LazyToy(Replaced))
    engine.fill(0, seed=1)
    train(engine, 0, MOVING[:1])
    before = engine.snapshot(0).model["last.weight"]
    train(engine, 0, MOVING[1:])
    assert not torch.equal(engine.snapshot(0).model["last.weight"], before)


def test_a_parameter_that_never_gets_a_shape_is_named():
    with pytest.raises(TaskError, match=r"unused\.weight, unused\.bias has no shape after a step"):
        check_task(LazyToy(Unused))
    with pytest.raises(SchedSearchError, match=r"unused\.weight, unused\.bias has"):
        SequentialEngine(LazyToy(Unused)).fill(0, seed=0)
