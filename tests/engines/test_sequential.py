"""The sequential engine agrees with plain torch, and reports what tasks do wrong."""

import math
import subprocess
import sys

import pytest
import torch

from schedsearch.engines.precision import PrecisionSettings
from schedsearch.engines.sequential import SequentialEngine
from schedsearch.errors import SchedSearchError, TaskError
from tests.engines.toys import LAYERS, TORCH_OPTIMIZERS, Toy, evaluate, train_plainly

MOVING = [
    {"lr": 0.05, "momentum": 0.0, "weight_decay": 0.0, "weights.penalty": 1.0, "blur": 0.0},
    {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1, "weights.penalty": 0.3, "blur": 0.5},
    {"lr": 0.01, "momentum": 0.3, "weight_decay": 0.0, "weights.penalty": 0.0, "blur": 0.1},
]


@pytest.mark.parametrize("optimizer", TORCH_OPTIMIZERS)
@pytest.mark.parametrize("layers", LAYERS)
def test_it_trains_exactly_as_a_plain_torch_loop_with_changing_values(layers, optimizer):
    task = Toy(layers, optimizer)
    engine = SequentialEngine(task)
    engine.fill(0, seed=3)
    data, model = task.data(3), task.model(3)
    by_hand = TORCH_OPTIMIZERS[optimizer](model.parameters())
    for epoch, hp in enumerate(MOVING):
        [result] = engine.train_epoch([hp])
        terms = train_plainly(task, model, by_hand, data.train, 3, epoch, hp)
        for name, value in engine.snapshot(0).model.items():
            assert torch.equal(value, model.state_dict()[name])
        assert result.terms == pytest.approx(terms, rel=1e-12)
        expected = evaluate(task, model, data.validation)
        assert result.metrics == {f"val_{name}": value for name, value in expected.items()}
    assert engine.test(0) == {
        f"test_{name}": value for name, value in evaluate(task, model, data.test).items()
    }


def test_epochs_see_different_batches_noise_and_dropout():
    task = Toy("dropout")
    engine = SequentialEngine(task)
    engine.fill(0, seed=1)
    first, second = (engine.train_epoch([{"lr": 0.0}])[0] for _ in range(2))
    assert first.metrics == second.metrics
    assert first.terms != second.terms


def test_a_share_of_examples_is_exact():
    engine = SequentialEngine(Toy())
    engine.fill(0, seed=1)
    far = engine.train_epoch([{}])[0].metrics["val_far"]
    assert far == round(far * 20) / 20


def test_a_test_between_epochs_does_not_change_the_training():
    engine = SequentialEngine(Toy("batch_norm"))
    runs = []
    for tests in (0, 2):
        engine.fill(0, seed=1)
        results = []
        for _ in range(3):
            results.append(engine.train_epoch([{}])[0])
            for _ in range(tests):
                engine.test(0)
        runs.append(results)
    assert runs[0] == runs[1]


def test_runs_of_one_seed_share_the_data():
    calls = []

    class Counted(Toy):
        def data(self, seed):
            calls.append(seed)
            return super().data(seed)

    engine = SequentialEngine(Counted())
    for seed in (1, 2, 1, 2, 1):
        engine.fill(0, seed)
    assert calls == [1, 2]


def test_steps_per_epoch_go_beyond_one_pass_and_below():
    class Steps(Toy):
        def terms(self, model, batch, hp, noise):
            seen.append(batch["x"])
            return super().terms(model, batch, hp, noise)

    for steps in (2, 13):
        seen: list[torch.Tensor] = []
        task = Steps()
        task.steps_per_epoch = steps
        engine = SequentialEngine(task)
        engine.fill(0, seed=1)
        assert math.isfinite(engine.train_epoch([{}])[0].metrics["val_loss"])
        assert [len(x) for x in seen] == [8] * steps


def test_a_task_may_have_noise_and_no_training_data():
    class Collocation(Toy):
        steps_per_epoch = 3

        def data(self, seed):
            splits = super().data(seed)
            return type(splits)({}, splits.validation, splits.test)

        def terms(self, model, batch, hp, noise):
            assert not batch
            return {"fit": model(noise["blur"]).square().mean()}

    engine = SequentialEngine(Collocation())
    engine.fill(0, seed=1)
    assert math.isfinite(engine.train_epoch([{}])[0].terms["fit"])


@pytest.mark.parametrize("metric", [torch.zeros(3), "low", None])
def test_a_metric_that_is_not_a_number_is_named(metric):
    class Wrong(Toy):
        def metrics(self, model, split):
            return {"loss": metric}

    engine = SequentialEngine(Wrong())
    engine.fill(0, seed=1)
    [error] = engine.train_epoch([{}])
    assert isinstance(error, SchedSearchError)
    assert "Wrong: the metric `loss` is" in str(error)


def test_a_metric_may_be_a_plain_float_and_is_never_infinite():
    class Plain(Toy):
        def metrics(self, model, split):
            return {"loss": 1.5, "ratio": math.inf}

    engine = SequentialEngine(Plain())
    engine.fill(0, seed=1)
    metrics = engine.train_epoch([{}])[0].metrics
    assert metrics["val_loss"] == 1.5
    assert math.isnan(metrics["val_ratio"])


def test_an_epoch_whose_last_step_breaks_the_model_has_diverged():
    task = Toy()
    task.steps_per_epoch = 1
    engine = SequentialEngine(task)
    engine.fill(0, seed=1)
    [result] = engine.train_epoch([{"lr": math.inf}])
    assert all(map(math.isfinite, result.terms.values()))
    assert all(map(math.isnan, result.metrics.values()))


def test_the_number_of_threads_is_restored_after_an_epoch():
    class Counting(Toy):
        def metrics(self, model, split):
            return {"threads": torch.get_num_threads()}

    before = torch.get_num_threads()
    engine = SequentialEngine(Counting(), precision=PrecisionSettings(threads=before + 2))
    engine.fill(0, seed=1)
    assert engine.train_epoch([{}])[0].metrics == {"val_threads": before + 2}
    assert torch.get_num_threads() == before


def test_an_exception_of_the_task_is_the_result_of_the_epoch():
    class Breaks(Toy):
        def terms(self, model, batch, hp, noise):
            raise ZeroDivisionError("mine")

    engine = SequentialEngine(Breaks())
    engine.fill(0, seed=1)
    [error] = engine.train_epoch([{}])
    assert isinstance(error, ZeroDivisionError)


def test_a_batch_larger_than_the_data_is_refused():
    task = Toy()
    task.batch_size = 44
    engine = SequentialEngine(task)
    engine.fill(0, seed=1)
    [error] = engine.train_epoch([{}])
    assert isinstance(error, TaskError)
    assert "the batch_size is 44, but must be at most" in str(error)


def test_another_process_gives_the_same_results():
    code = (
        "from schedsearch.engines.sequential import SequentialEngine as E\n"
        "from tests.engines.toys import Toy\n"
        "engine = E(Toy('dropout')); engine.fill(0, 5); print(engine.train_epoch([{}]))"
    )
    engine = SequentialEngine(Toy("dropout"))
    engine.fill(0, 5)
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(engine.train_epoch([{}]))
