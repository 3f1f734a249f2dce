"""The contract of every built-in task."""

import math

import pytest
import torch

from schedsearch.engines import make_engine
from schedsearch.task import check_task, count_examples, fingerprint_task, load_task
from schedsearch.tasks import BUILT_IN

OPTIMIZER = {"lr", "weight_decay", "momentum"}


@pytest.fixture(scope="module", params=BUILT_IN)
def task(request):
    return load_task(BUILT_IN[request.param])


class RecordingDict(dict):
    """A dict that records which names were read."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.read = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)


def same_split(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def first_terms(task, hp):
    torch.manual_seed(0)
    train = task.data(0).train
    batch = {name: tensor[: task.batch_size] for name, tensor in train.items()}
    noise = {name: torch.randn(shape) for name, shape in task.noise.items()}
    return task.terms(task.model(0), batch, hp, noise)


def tensors(hyperparameters):
    return {name: torch.tensor(value) for name, value in hyperparameters.items()}


def test_it_is_a_valid_task_with_a_docstring(task):
    check_task(task)
    assert type(task).__doc__
    reference = f"{type(task).__module__}:{type(task).__name__}"
    found = fingerprint_task(task, reference, {})
    assert all(name.startswith("schedsearch/tasks/") for name in found.names("code"))
    assert not found.names("package")


def test_data_and_model_depend_only_on_the_seed(task):
    torch.manual_seed(1)
    first, model = task.data(3), task.model(3).state_dict()
    state = torch.manual_seed(2).get_state()
    again = task.data(3)
    assert same_split(first.train, again.train)
    assert same_split(first.validation, again.validation)
    assert same_split(model, task.model(3).state_dict())
    assert torch.equal(torch.get_rng_state(), state)


def test_data_or_model_depend_on_the_seed(task):
    assert not (
        same_split(task.data(3).train, task.data(4).train)
        and same_split(task.model(3).state_dict(), task.model(4).state_dict())
    )


def test_the_test_split_does_not_depend_on_the_seed(task):
    assert same_split(task.data(3).test, task.data(4).test)


def test_no_training_or_validation_example_is_a_test_example(task):
    splits = task.data(0)
    seen = {_row(splits.test, i) for i in range(count_examples(splits.test))}
    for split in (splits.train, splits.validation):
        assert not any(_row(split, i) in seen for i in range(count_examples(split)))


def _row(split, index):
    """Return the bytes of an example without its label, which may be noisy."""
    return b"".join(
        tensor[index].numpy().tobytes() for name, tensor in split.items() if name != "label"
    )


def test_every_hyperparameter_is_used_by_the_loss_or_the_optimizer(task):
    hp = RecordingDict(tensors(task.hyperparameters))
    terms = first_terms(task, hp)
    weights = {f"weights.{name}" for name in terms}
    assert set(task.hyperparameters) - weights - OPTIMIZER == hp.read - weights - OPTIMIZER


def test_metrics_do_not_change_the_model(task):
    model, splits = task.model(0).eval(), task.data(0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        first = task.metrics(model, splits.validation)
        again = task.metrics(model, splits.validation)
    assert first == again
    assert same_split(before, model.state_dict())


def test_three_epochs_improve_a_validation_metric(task):
    engine = make_engine(task, horizon=3)
    engine.fill(0, seed=0)
    untrained = engine.test(0)
    results = [engine.train_epoch([{}])[0] for _ in range(3)]
    for result in results:
        assert all(map(math.isfinite, (*result.metrics.values(), *result.terms.values())))
    trained = engine.test(0)
    assert any(trained[name] < untrained[name] for name in trained)


def test_training_is_reproducible_and_resumes_from_a_snapshot_bit_for_bit(task):
    engine = make_engine(task, horizon=3)
    engine.fill(0, seed=1)
    [first] = engine.train_epoch([{}])
    snapshot = engine.snapshot(0)
    rest = [engine.train_epoch([{}])[0] for _ in range(2)]
    engine.fill(0, seed=2)
    assert engine.train_epoch([{}]) != [first]
    engine.fill(0, seed=1)
    assert engine.train_epoch([{}]) == [first]
    engine.fill(0, seed=1, snapshot=snapshot)
    assert [engine.train_epoch([{}])[0] for _ in range(2)] == rest
