"""Variants of a plan: valid, mostly as their parent, and in the end everything that is possible."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution

from schedsearch.samplers.variants import VariantSuggester
from schedsearch.space.suggesters import RandomSuggester


def suggester_of(seed: int, parent: dict, **fixed: object) -> VariantSuggester:
    made = VariantSuggester(RandomSuggester(seed), fixed)
    made.begin(parent)
    return made


@pytest.mark.parametrize("value", [False, 0, ""])
def test_a_fixed_choice_is_not_drawn(value):
    suggester = suggester_of(0, {}, a=value)
    drawn = [suggester.suggest_categorical("a", [value, "other"]) for _ in range(20)]
    assert drawn == [value] * 20
    assert suggester.parameters == {"a": value}


@given(
    st.integers(0, 10**6),
    st.floats(-100, 100),
    st.floats(1, 1e4),
    st.floats(-2e4, 2e4),
    st.none() | st.integers(1, 100),
)
def test_a_number_is_in_its_range_wherever_the_parent_is(seed, low, width, parent, steps):
    step = None if steps is None else width / steps
    with warnings.catch_warnings(action="ignore"):  # the range is no multiple of the step
        distribution = FloatDistribution(low, low + width, step=step)
    suggester = suggester_of(seed, {"x": parent})
    value = suggester.suggest_float("x", low, distribution.high, step=step)
    assert distribution._contains(value)


@given(
    st.integers(0, 10**6),
    st.integers(1, 100),
    st.integers(0, 1000),
    st.integers(-5, 2000),
    st.none() | st.integers(1, 7),
)
def test_an_integer_is_in_its_range_wherever_the_parent_is(seed, low, width, parent, step):
    # Without a step, it is logarithmic.
    options = {"log": True} if step is None else {"step": step}
    distribution = IntDistribution(low, low + width * (step or 1), **options)
    value = suggester_of(seed, {"x": parent}).suggest_int("x", low, distribution.high, **options)
    assert isinstance(value, int)
    assert distribution._contains(value)


def test_most_parameters_are_those_of_the_parent_and_others_are_near():
    numbers = []
    for seed in range(400):
        suggester = suggester_of(seed, {"x": 1e-3, "kind": "b"})
        numbers.append(suggester.suggest_float("x", 1e-5, 1e-1, log=True))
        suggester.suggest_categorical("kind", ["a", "b", "c"])
        assert suggester.parameters.keys() == {"x", "kind"}
    assert 0.35 < sum(x == 1e-3 for x in numbers) / 400 < 0.5
    # The range is a factor of 10,000, and a standard deviation 0.15 of it in logarithms.
    assert sum(1e-3 / 4 < x < 1e-3 * 4 for x in numbers) / 400 > 0.7
    assert min(numbers) < 1e-4
    assert max(numbers) > 1e-2


def test_a_choice_of_the_parent_that_is_no_longer_possible_is_drawn():
    drawn = {
        suggester_of(seed, {"kind": "gone"}).suggest_categorical("kind", ["a", None])
        for seed in range(20)
    }
    assert drawn == {"a", None}
    assert suggester_of(0, {}).suggest_categorical("kind", [None]) is None
