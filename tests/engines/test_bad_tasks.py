"""A wrong return value of a task is reported in one line, by both engines."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from torch import Tensor

from schedsearch.engines import make_engine
from schedsearch.engines.base import EpochResult
from schedsearch.errors import SchedSearchError
from schedsearch.numerics import current_numerics
from tests.engines.toys import Toy

Change = Callable[[Mapping[str, Tensor]], Any]


class Changed(Toy):
    """A toy that returns something else from one of its methods."""

    def __init__(self, part: str, change: Change) -> None:
        super().__init__()
        self._part, self._change = part, change

    def terms(self, model, batch, hp, noise):
        return self._returned("terms", super().terms(model, batch, hp, noise))

    def metrics(self, model, split):
        return self._returned("metrics", super().metrics(model, split))

    def _returned(self, part: str, good: Mapping[str, Tensor]) -> Any:
        return self._change(good) if part == self._part else good


def first(change: Callable[[Tensor], Any]) -> Change:
    """Return a change of the first value of a dict."""

    def changed(good: Mapping[str, Tensor]) -> Any:
        name, value = next(iter(good.items()))
        return {**good, name: change(value)}

    return changed


@pytest.fixture(params=["sequential", "lanes"])
def train(request):
    """Return a function that trains an epoch of a task in all lanes of an engine."""

    def train(task: Toy) -> list[EpochResult | Exception | None]:
        numerics = current_numerics("sequential")
        if request.param == "lanes":
            numerics = current_numerics("lanes", lanes=2, compiled=False)
        engine = make_engine(task, horizon=3, numerics=numerics)
        for lane in range(engine.lanes):
            engine.fill(lane, seed=lane)
        return list(engine.train_epoch([{}] * engine.lanes))

    return train


@pytest.mark.parametrize("part", ["terms", "metrics"])
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda good: None, "must return a dict of 0-d tensors by name, not None"),
        (lambda good: "low", "must return a dict of 0-d tensors by name, not 'low'"),
        (lambda good: {}, "must return a dict of 0-d tensors by name, not {}"),
        (first(lambda value: None), r"the (loss term|metric) `\w+` is None, but must be a"),
        (first(lambda value: "low"), r"the (loss term|metric) `\w+` is 'low', but must be a"),
        (
            first(lambda value: value.expand(3)),
            r"the (loss term|metric) `\w+` is of shape \(3,\), but must be a",
        ),
    ],
)
def test_a_value_that_is_not_a_number_is_named_with_the_rule(train, part, change, rule):
    try:
        results = train(Changed(part, change))
    except SchedSearchError as error:
        results = [error]
    for result in results:
        assert isinstance(result, SchedSearchError)
        assert re.search(rule, str(result))


@pytest.mark.parametrize("part", ["terms", "metrics"])
@pytest.mark.parametrize("factor", [math.nan, math.inf, -math.inf])
def test_a_run_with_a_value_that_is_not_finite_has_diverged(train, part, factor):
    for result in train(Changed(part, first(lambda value: value * factor))):
        assert isinstance(result, EpochResult)
        assert math.isnan(result.metrics["val_loss"])
