"""Sign flips, Holm's levels, and what is said of a plan."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from schedsearch.confirmation import paired
from schedsearch.confirmation.paired import (
    Paired,
    Verdict,
    fewest_seeds,
    hochberg_adjusted,
    holm_levels,
    judge,
    seeds_to_show,
)

# Multiples of 1/8 add up without rounding: ties are ties.
EIGHTHS = st.integers(-40, 40).map(lambda eighths: eighths / 8)
DIFFERENCES = st.lists(EIGHTHS, min_size=2, max_size=8).map(tuple)
#: A shift this near to a tie counts as one.
ROUNDING = 1e-7
LEVELS = st.sampled_from([0.3, 0.05, 0.025, 0.01])


def p_by_counting(differences: tuple[float, ...], shift: float = 0.0) -> float:
    """Go through all flips, one by one."""
    moved = [difference - shift for difference in differences]
    flips = list(itertools.product((1, -1), repeat=len(moved)))
    far = sum(
        abs(sum(sign * d for sign, d in zip(flip, moved, strict=True))) >= abs(sum(moved))
        for flip in flips
    )
    return far / len(flips)


def interval_by_counting(differences: tuple[float, ...], level: float) -> tuple[float, float]:
    """A flip is as far out as what was seen where the shift lies between two means.

    They are those of the flipped differences and of the others; p is the share of such flips.
    """
    lows, highs = [], []
    for flip in itertools.product((True, False), repeat=len(differences)):
        flipped = [d for d, is_flipped in zip(differences, flip, strict=True) if is_flipped]
        others = [d for d, is_flipped in zip(differences, flip, strict=True) if not is_flipped]
        means = [sum(part) / len(part) for part in (flipped, others) if part]
        lows.append(min(means) if len(means) == 2 else -math.inf)
        highs.append(max(means) if len(means) == 2 else math.inf)
    needed = math.floor(level * len(lows))  # so many flips or fewer are no more than the level
    return sorted(lows)[needed], sorted(highs, reverse=True)[needed]


@given(DIFFERENCES)
def test_p_is_the_share_of_sign_flips_with_a_mean_as_far_from_zero(differences):
    assert Paired(differences).p == p_by_counting(differences)


@given(DIFFERENCES, LEVELS)
@settings(max_examples=50)
def test_the_interval_holds_the_shifts_whose_p_is_above_the_level(differences, level):
    expected = interval_by_counting(differences, level)
    assert Paired(differences).interval(level) == pytest.approx(expected, abs=ROUNDING)


@given(DIFFERENCES, LEVELS)
@settings(max_examples=50)
def test_the_interval_excludes_zero_exactly_when_p_is_below_the_level(differences, level):
    paired = Paired(differences)
    low, high = paired.interval(level)
    includes = low <= ROUNDING and high >= -ROUNDING
    assert (paired.p < level) == (not includes)


@pytest.mark.parametrize("count", [6, 11])
def test_p_is_scipys(count):
    differences = np.random.default_rng(count).normal(-0.4, 1.0, count)
    expected = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert Paired(tuple(differences)).p == pytest.approx(expected.pvalue, rel=1e-12)


def test_beyond_sixteen_seeds_flips_are_sampled_and_always_the_same():
    differences = tuple(np.random.default_rng(1).normal(-0.5, 1.0, 20))
    expected = permutation_test(
        (np.array(differences),),
        lambda d, axis: d.mean(axis=axis),
        permutation_type="samples",
        n_resamples=2**20,
        batch=2**16,
        vectorized=True,
    )
    p = Paired(differences).p
    # Four standard errors of the share of 2 ** 16 flips.
    assert p == pytest.approx(expected.pvalue, abs=4 * math.sqrt(p * (1 - p) / 2**16))
    paired._sign_flips.cache_clear()  # as in another process
    assert p == Paired(differences).p
    assert p not in (0.0, 1.0)


def test_p_is_never_zero_however_many_seeds():
    assert Paired((-1.0,) * 40).p >= 2**-16


@pytest.mark.parametrize("differences", [(-0.3, 0.1, -0.2, -0.4, 0.0, -0.3, -0.1), (-1.0,) * 6])
def test_turning_every_sign_leaves_p_and_mirrors_the_interval(differences):
    paired, mirrored = Paired(differences), Paired(tuple(-d for d in differences))
    low, high = paired.interval(0.05)
    assert mirrored.p == paired.p
    assert mirrored.interval(0.05) == pytest.approx((-high, -low), abs=1e-12)
    assert (mirrored.wins, mirrored.losses) == (paired.losses, paired.wins)


def test_shifting_and_scaling_the_differences_shifts_and_scales_the_interval():
    differences = (-0.3, 0.1, -0.2, -0.4, 0.0, -0.3, -0.1)
    low, high = Paired(differences).interval(0.05)
    moved = Paired(tuple(100 * d + 7 for d in differences)).interval(0.05)
    assert moved == pytest.approx((100 * low + 7, 100 * high + 7), rel=1e-9)


def test_equal_runs_show_nothing():
    paired = Paired.of([0.5, 0.25, 0.75] * 3, [0.5, 0.25, 0.75] * 3)
    assert (paired.p, paired.wins, paired.losses) == (1.0, 0, 0)
    assert paired.interval(0.05) == (0.0, 0.0)
    assert seeds_to_show(paired, 0.05) is None


def test_a_collapsed_run_does_not_drown_nineteen_clear_differences():
    assert Paired((*(-0.01 - 0.001 * i for i in range(19)), -2.0)).p < 0.001


def test_too_few_seeds_for_the_level_have_no_interval():
    assert Paired((-1.0,) * 5).interval(0.05) == (-math.inf, math.inf)
    assert Paired((-1.0,) * 6).interval(0.05) == (-1.0, -1.0)


@pytest.mark.parametrize("plans", [1, 2, 3, 5, 10, 40])
def test_the_fewest_seeds_are_those_with_which_a_plan_could_be_better(plans):
    count = fewest_seeds(plans)
    assert [2 / 2**n < 0.05 / plans for n in (count - 1, count)] == [False, True]
    for seeds, verdict in ((count, Verdict.BETTER), (count - 1, Verdict.NO_DIFFERENCE)):
        others = [[Paired((0.0,) * seeds)]] * (plans - 1)
        [first, *_] = judge([[Paired((-1.0,) * seeds)], *others])
        assert first.verdict is verdict


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.03], [0.05]),
        ([0.01, 0.04], [0.025, 0.05]),
        ([0.04, 0.03], [0.025, 0.025]),  # the least fails, and so does the other one
        ([0.005, 0.011, 0.02, 0.04], [0.0125, 0.05 / 3, 0.025, 0.05]),
        ([0.005, 0.02, 0.001], [0.025, 0.05, 0.05 / 3]),
        ([0.01, 0.001, 0.5, 0.03], [0.05 / 3, 0.0125, 0.025, 0.025]),
    ],
)
def test_holms_levels_rise_until_a_p_is_not_below_its_own(p_values, expected):
    assert holm_levels(p_values, 0.05) == pytest.approx(expected, rel=1e-15)


def test_a_plan_is_better_only_if_it_beats_every_constant():
    clear, unclear = Paired((-1.0,) * 8), Paired((-1.0, 1.0) * 4)
    [both, one] = judge([[clear, clear], [clear, unclear]])
    assert (both.verdict, one.verdict) == (Verdict.BETTER, Verdict.NO_DIFFERENCE)
    assert one.p == 1.0


def test_a_plan_is_worse_if_one_constant_beats_it():
    better, worse = Paired((-1.0,) * 8), Paired((1.0,) * 8)
    [found] = judge([[better, worse]])
    assert (found.verdict, found.p) == (Verdict.WORSE, 2 * 2 / 2**8)


def test_worse_answers_for_the_number_of_constants():
    worse, unclear = Paired((1.0,) * 6), Paired((-1.0, 1.0) * 3)
    assert judge([[worse]])[0].verdict is Verdict.WORSE  # p is 2 / 64
    assert judge([[worse, unclear]])[0].verdict is Verdict.NO_DIFFERENCE


@pytest.mark.long
@pytest.mark.parametrize(("plans", "constants"), [(1, 1), (5, 4)])
def test_of_plans_that_are_all_alike_any_is_called_better_at_most_at_the_level(plans, constants):
    alpha, repeats = 0.2, 500
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(repeats):
        # Skewed, as errors are; what a seed gives to all plans drops out of the pairs.
        runs = rng.exponential(1.0, (plans + constants, 8))
        pairs = [
            [Paired.of(list(plan), list(constant)) for constant in runs[plans:]]
            for plan in runs[:plans]
        ]
        wrong += any(judged.verdict is Verdict.BETTER for judged in judge(pairs, alpha))
    # "Better" is one of the two sides of a single comparison.
    assert wrong / repeats <= alpha / 2 + 4 * math.sqrt(alpha / 2 * (1 - alpha / 2) / repeats)


def normal(rng, size):
    return rng.normal(0.0, 1.0, size)


def collapsing(rng, size):
    """One run in ten fails."""
    return rng.normal(0.0, 0.1, size) + 5.0 * (rng.random(size) < 0.1)


def skewed(rng, size):
    return rng.exponential(1.0, size)


@pytest.mark.parametrize("draw", [normal, collapsing, skewed])
@pytest.mark.parametrize(("plans", "constants", "seeds"), [(1, 4, 7), (3, 4, 9), (1, 8, 8)])
def test_of_plans_that_are_all_alike_any_is_called_worse_at_most_at_the_level(
    draw, plans, constants, seeds
):
    alpha, repeats = 0.2, 300
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(repeats):
        runs = draw(rng, (plans + constants, seeds))
        pairs = [
            [Paired.of(list(plan), list(constant)) for constant in runs[plans:]]
            for plan in runs[:plans]
        ]
        # The verdicts alone: the intervals take longer.
        worse = [
            min(hochberg_adjusted([pair.p if pair.mean > 0 else 1.0 for pair in plan]))
            for plan in pairs
        ]
        levels = holm_levels(worse, alpha)
        wrong += any(p < level for p, level in zip(worse, levels, strict=True))
    assert wrong / repeats <= alpha / 2 + 3 * math.sqrt(alpha / 2 * (1 - alpha / 2) / repeats)


def test_hochbergs_p_is_adjusted_from_the_largest_down():
    assert hochberg_adjusted([0.02, 0.5, 0.012, 0.02]) == pytest.approx([0.04, 0.5, 0.04, 0.04])
    assert hochberg_adjusted([0.04, 0.03]) == pytest.approx([0.04, 0.04])
    assert hochberg_adjusted([0.7]) == [0.7]


@given(
    st.lists(
        st.lists(st.lists(EIGHTHS, min_size=7, max_size=7), min_size=3, max_size=3),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([0.05, 0.2]),
)
@settings(max_examples=60, deadline=None)
def test_the_intervals_say_what_the_verdict_says(differences, alpha):
    plans = [[Paired(tuple(pair)) for pair in plan] for plan in differences]
    for judged in judge(plans, alpha):
        # The rounding error of the bisection of a shift of 0 is not a difference.
        below = [high < -ROUNDING for _, high in judged.intervals]
        above = [low > ROUNDING for low, _ in judged.intervals]
        assert (judged.verdict is Verdict.BETTER) == all(below)
        assert (judged.verdict is Verdict.WORSE) == any(above)


def test_an_interval_above_zero_that_the_number_of_constants_explains_is_extended_to_zero():
    worse, unclear = Paired((1.0, 1.1, 1.2) * 2), Paired((-1.0, 1.0) * 3)
    [alone] = judge([[worse]])
    [among] = judge([[worse, unclear]])
    assert (alone.verdict, among.verdict) == (Verdict.WORSE, Verdict.NO_DIFFERENCE)
    assert alone.intervals[0] == worse.interval(0.05)
    assert among.intervals[0] == (0.0, alone.intervals[0][1])
    [everywhere] = judge([[worse, worse]])
    assert everywhere.verdict is Verdict.WORSE
    assert everywhere.intervals == (worse.interval(0.05),) * 2


def test_seeds_to_show_grow_with_the_square_of_the_noise():
    quiet = Paired((-1.0, 0.0, -2.0, 0.0, 0.5, -1.0))
    noisy = Paired(tuple(quiet.mean + 10 * (d - quiet.mean) for d in quiet.differences))
    few, many = seeds_to_show(quiet, 0.05), seeds_to_show(noisy, 0.05)
    assert few is not None
    assert many is not None
    assert many == pytest.approx(100 * few, rel=0.1)


def test_the_seeds_that_would_show_a_difference_show_it_four_times_out_of_five():
    rng = np.random.default_rng(0)
    sample = rng.normal(0.0, 1.0, 8)
    paired = Paired(tuple((sample - sample.mean()) / sample.std(ddof=1) - 0.8))
    seeds = seeds_to_show(paired, 0.05)
    assert seeds == 13  # ((1.96 + 0.84) / 0.8) ** 2
    shown = [Paired(tuple(rng.normal(-0.8, 1.0, seeds))).p < 0.05 for _ in range(200)]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.12)
