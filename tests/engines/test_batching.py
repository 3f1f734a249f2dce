"""The operation that prevents batching is named in one line."""

import inspect
import re

import pytest
import torch

from schedsearch.engines.batching import why_not_batched
from schedsearch.engines.lanes.graphs import trace, transpose_narrow_products
from schedsearch.engines.precision import PrecisionSettings
from schedsearch.task import load_task
from schedsearch.tasks import BUILT_IN
from tests.engines.toys import LAYERS, Toy, train_toy


class Item(Toy):
    def terms(self, model, batch, hp, noise):
        terms = super().terms(model, batch, hp, noise)
        return {**terms, "fit": terms["fit"] * terms["fit"].item()}


class Float(Toy):
    def terms(self, model, batch, hp, noise):
        return super().terms(model, batch, {**hp, "blur": float(hp["blur"])}, noise)


class Branch(Toy):
    def terms(self, model, batch, hp, noise):
        return super().terms(model, batch, hp if hp["blur"] > 0 else {}, noise)


class Random(Toy):
    def terms(self, model, batch, hp, noise):
        blurred = batch["x"] + torch.randn_like(batch["x"])
        return super().terms(model, {**batch, "x": blurred}, hp, noise)


class InPlace(Toy):
    def terms(self, model, batch, hp, noise):
        total = torch.zeros(8, 1)
        total += model(batch["x"])
        return {"fit": total.square().mean(), "penalty": total.mean()}


class Numpy(Toy):
    def metrics(self, model, split):
        return {"loss": model(split["x"]).numpy().mean()}


class Counting(Toy):
    calls = 0

    def terms(self, model, batch, hp, noise):
        self.calls += 1
        terms = super().terms(model, batch, hp, noise)
        return {**terms, "fit": terms["fit"] * self.calls}


class Hiding(Toy):
    """The model depends on the seed in a tensor that is neither a parameter nor a buffer."""

    def model(self, seed):
        model = super().model(seed)
        model.shift = torch.full((3,), float(seed))
        return model

    def terms(self, model, batch, hp, noise):
        return super().terms(model, {**batch, "x": batch["x"] + model.shift}, hp, noise)


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (Float(), "torch.Tensor.__float__ converts a tensor that differs between runs"),
        (Item(), "torch.Tensor.item converts a tensor that differs between runs"),
        (Branch(), "torch.Tensor.__bool__ "),
        (Random(), "torch.randn_like draws random numbers"),
        (InPlace(), "torch.Tensor.add_ "),
        (Numpy(), "torch.Tensor.numpy reads the values of a tensor that differs between runs"),
        (Counting(), "a step does not have the same operations in every run"),
        (Hiding(), "a step does not have the same operations in every run"),
        (train_toy, "a training loop trains one run at a time"),
    ],
)
def test_the_operation_that_prevents_batching_is_named(task, reason):
    found = why_not_batched(task)
    assert found is not None
    assert found.startswith(reason)
    assert "\n" not in found


@pytest.mark.parametrize("task", [Float(), Item(), Branch(), Random(), InPlace(), Numpy()])
def test_the_reason_names_the_line_of_the_task(task):
    function = type(task).metrics if isinstance(task, Numpy) else type(task).terms
    lines, first = inspect.getsourcelines(function)
    found = re.search(r"\(test_batching\.py:(\d+)\)$", why_not_batched(task) or "")
    assert found
    # The first line is that of `def`.
    assert first < int(found[1]) < first + len(lines)


def test_a_step_is_traced_in_the_precision_of_its_training():
    class ItemOfHalves(Toy):
        def terms(self, model, batch, hp, noise):
            terms = super().terms(model, batch, hp, noise)
            output = model(batch["x"])
            whole = output.dtype == torch.float32
            return terms if whole else {**terms, "fit": terms["fit"] * output.sum().item()}

    assert why_not_batched(ItemOfHalves()) is None
    found = why_not_batched(ItemOfHalves(), precision=PrecisionSettings(autocast=True))
    assert found is not None
    assert found.startswith("torch.Tensor.item converts a tensor that differs between runs")


@pytest.mark.parametrize("layers", LAYERS)
def test_ordinary_layers_can_be_batched(layers):
    assert why_not_batched(Toy(layers)) is None


@pytest.mark.parametrize("name", ["noisy_digits", "vae", "burgers", "registration"])
def test_built_in_tasks_can_be_batched(name):
    assert why_not_batched(load_task(BUILT_IN[name])) is None


def test_an_exception_while_the_model_is_made_is_raised():
    class Broken(Toy):
        def model(self, seed):
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        why_not_batched(Broken())


def test_narrow_products_are_computed_transposed_with_the_same_result():
    factors = [torch.randn(4, 64, 32), torch.randn(4, 32, 10)]
    graph = trace(torch.bmm, factors)
    expected = graph(*factors)
    transpose_narrow_products(graph)
    result = graph(*factors)
    torch.testing.assert_close(result, expected)
    assert result.stride() == (640, 1, 64)


def test_wide_products_are_not_changed():
    graph = trace(torch.bmm, [torch.randn(4, 64, 32), torch.randn(4, 32, 16)])
    before = graph.code
    transpose_narrow_products(graph)
    assert graph.code == before
