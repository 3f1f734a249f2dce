"""The ranking of plans that have different numbers of runs."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from schedsearch.storage.plan_means import pooled_deviation, rank_by_runs

RUNS = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6)


@given(st.lists(RUNS, max_size=20))
def test_a_ranking_has_each_plan_once(plans):
    assert sorted(rank_by_runs(plans)) == list(range(len(plans)))


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), max_size=20))
def test_plans_with_equally_many_runs_are_ranked_by_their_mean(plans):
    for seeds in (1, 3):
        means = [sum(plans[plan]) / 3 for plan in rank_by_runs(plans, seeds)]
        assert all(a <= b or math.isclose(a, b) for a, b in itertools.pairwise(means))


@given(
    st.lists(RUNS, min_size=1, max_size=20), st.lists(st.integers(-50, 50), min_size=6, max_size=6)
)
def test_easy_and_hard_seeds_do_not_change_a_ranking(plans, effects):
    # Multiples of 60: their means over up to six runs are exact.
    exact = [[60.0 * round(value) for value in runs] for runs in plans]
    shifted = [
        [value + 60 * effect for value, effect in zip(runs, effects, strict=False)]
        for runs in exact
    ]
    assert rank_by_runs(exact) == rank_by_runs(shifted)


def test_a_better_plan_that_has_no_further_run_yet_takes_the_place_of_the_worst_that_has():
    raced = [[3.0, 3.0], [2.0, 1.0], [4.0, 0.0]]
    assert rank_by_runs(raced) == [1, 2, 0]
    assert rank_by_runs([*raced, [2.5]]) == [1, 0, 3, 2]


def test_large_values_have_a_spread():
    assert pooled_deviation([[1e308, -1e308]]) == math.inf
    assert pooled_deviation([[1.0], []]) is None
