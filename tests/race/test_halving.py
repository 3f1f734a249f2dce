"""Successive halving over seeds, as a pure function of the values."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedsearch.race.halving import Halving, fit, mean

VALUES = st.one_of(st.floats(-1e3, 1e3), st.just(math.inf))


@st.composite
def tables(draw: st.DrawFn) -> list[list[float]]:
    """The values of plans, each with so many seeds that no race needs more."""
    plans = draw(st.integers(0, 40))
    return draw(
        st.lists(st.lists(VALUES, min_size=12, max_size=12), min_size=plans, max_size=plans)
    )


def race(halving: Halving, table: list[list[float]], seeds: int) -> list[list[int]]:
    """Return the plans of each round, if plan p has the value table[p][s] with seed s."""
    runs, rounds = [values[:seeds] for values in table], []
    while due := halving.next_runs(runs, seeds):
        rounds.append(due)
        for plan in due:
            runs[plan].append(table[plan][len(runs[plan])])
    return rounds


@given(tables(), st.integers(1, 20), st.integers(1, 5), st.integers(1, 3))
def test_each_round_is_the_better_half_of_the_round_before(table, top, rounds, seeds):
    found = race(Halving(top, rounds), table, seeds)
    left, size = list(range(len(table))), min(top, math.ceil(len(table) / 2))
    for place, plans in enumerate(found):
        means = {plan: mean(table[plan][: seeds + place]) for plan in left}
        # A plan whose run diverged has dropped out.
        fit_plans = [plan for plan in left if not place or means[plan] < math.inf]
        worst = max(means[plan] for plan in plans)
        assert len(plans) == len(set(plans)) == min(size, len(fit_plans))
        assert set(plans) <= set(fit_plans)
        others = [means[plan] for plan in fit_plans if plan not in plans]
        assert all(worst <= other or math.isclose(worst, other) for other in others)
        left, size = plans, math.ceil(size / 2)
    # It ends before its last round only if all plans that are left have diverged.
    ended = seeds + len(found)
    assert len(found) == rounds or all(mean(table[plan][:ended]) == math.inf for plan in left)


@given(tables(), st.integers(1, 20), st.integers(1, 5))
def test_a_race_never_needs_more_runs_than_it_says(table, top, rounds):
    halving, runs = Halving(top, rounds), [values[:1] for values in table]
    most = halving.most_outstanding(runs)
    assert most <= sum(halving.sizes)
    assert sum(map(len, race(halving, table, 1))) <= most


@given(tables(), st.integers(1, 20), st.integers(1, 5))
def test_a_round_that_was_interrupted_continues_with_the_runs_that_are_missing(table, top, rounds):
    halving, runs = Halving(top, rounds), [values[:1] for values in table]
    whole = [plan for plans in race(halving, table, 1) for plan in plans]
    one_by_one = []
    while due := halving.next_runs(runs):
        one_by_one.append(due[0])
        runs[due[0]].append(table[due[0]][len(runs[due[0]])])
    assert one_by_one == whole


def test_a_plan_whose_run_diverged_drops_out():
    table = [[1.0, math.inf], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]]
    assert race(Halving(2, 2), [values * 3 for values in table], 1) == [[0, 1], [1]]


def test_the_largest_race_that_fits_is_chosen():
    for limit in range(60):
        found = fit(16, 4, limit)
        sizes = [] if found is None else [size for race in found for size in race.sizes]
        assert sum(sizes) <= limit
        larger = fit(16, 4, limit + 5)
        if found is not None and larger is not None:
            assert larger[0].top >= found[0].top
    assert fit(16, 4, 38) == (Halving(16, 4), Halving(4, 4))
    assert fit(16, 4, 4) is None
    assert fit(0, 4, 100) is None


@pytest.mark.parametrize("seed", range(3))
def test_the_winner_of_a_race_is_better_than_the_best_single_run(seed):
    """With as much noise as difference, over many races."""
    import random

    rng, halving, gains = random.Random(seed), Halving(16, 4), []
    for _ in range(200):
        truth = [rng.gauss(0, 1) for _ in range(100)]
        table = [[rng.gauss(mean, 1) for _ in range(8)] for mean in truth]
        first = min(range(100), key=lambda plan: table[plan][0])
        [*_, last] = race(halving, table, 1)
        winner = min(last, key=lambda plan: statistics.fmean(table[plan][:5]))
        gains.append(truth[first] - truth[winner])
    assert statistics.fmean(gains) > 4 * statistics.stdev(gains) / math.sqrt(len(gains))
