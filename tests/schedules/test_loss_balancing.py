"""Loss balancing: exact values from the formulas of the papers."""

import math

import pytest

from schedsearch.errors import ParameterError
from schedsearch.schedules import GroupSchedule
from schedsearch.schedules.loss_balancing import Dwa, Relobralo, Softadapt, TargetContribution
from tests.schedules.replay import on_terms

MEMBERS = ("weights.a", "weights.b")
NAN, INF = math.nan, math.inf
EVERY = [
    Dwa(MEMBERS),
    Softadapt(MEMBERS),
    Relobralo(MEMBERS),
    TargetContribution(MEMBERS, targets=(1.0, 2.0)),
]


def weights(schedule: GroupSchedule, *terms: tuple[float, float]) -> list[tuple[float, float]]:
    values = on_terms(schedule, *[{"a": a, "b": b} for a, b in terms])
    return [(value["weights.a"], value["weights.b"]) for value in values]


def pair(first: float, second: float) -> tuple[float, float]:
    """The softmax of two logits, times two."""
    a, b = math.exp(first), math.exp(second)
    return 2 * a / (a + b), 2 * b / (a + b)


def same(
    found: list[tuple[float, float]], expected: list[tuple[float, float]], rel: float = 1e-14
) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=rel)


def test_dwa_weights_are_a_softmax_of_the_ratio_of_the_last_two_epochs() -> None:
    found = weights(Dwa(MEMBERS, temperature=2.0), (4.0, 4.0), (2.0, 3.0), (2.0, 1.5))
    same(found, [(1.0, 1.0), (1.0, 1.0), pair(0.5 / 2, 0.75 / 2), pair(1.0 / 2, 0.5 / 2)])


def test_softadapt_weights_are_a_softmax_of_the_normalised_changes() -> None:
    found = weights(Softadapt(MEMBERS, beta=0.5), (4.0, 4.0), (3.0, 1.0), (4.0, 0.0))
    same(found, [(1.0, 1.0), (1.0, 1.0), pair(-0.125, -0.375), pair(0.25, -0.25)])


def test_softadapt_with_a_positive_beta_favours_the_term_that_decreases_least() -> None:
    slow, fast = weights(Softadapt(MEMBERS, beta=1.0), (1.0, 1.0), (0.9, 0.2))[-1]
    assert slow > 1 > fast


def test_softadapt_weights_are_1_while_no_term_changes() -> None:
    assert weights(Softadapt(MEMBERS), (4.0, 4.0), (3.0, 1.0), (3.0, 1.0))[-1] == (1.0, 1.0)


def test_relobralo_with_saudade_1_mixes_the_last_weights_and_the_last_epochs() -> None:
    schedule = Relobralo(MEMBERS, alpha=0.75, temperature=0.5, saudade=1.0)
    found = weights(schedule, (4.0, 4.0), (2.0, 4.0), (2.0, 1.0))
    bal_1, bal_2 = pair(0.5 / 0.5, 1.0 / 0.5), pair(1.0 / 0.5, 0.25 / 0.5)
    first = tuple(0.75 * 1.0 + 0.25 * new for new in bal_1)
    second = tuple(0.75 * old + 0.25 * new for old, new in zip(first, bal_2, strict=True))
    same(found, [(1.0, 1.0), (1.0, 1.0), (first[0], first[1]), (second[0], second[1])])


def test_relobralo_with_saudade_0_mixes_the_first_epoch_and_the_last() -> None:
    schedule = Relobralo(MEMBERS, alpha=0.75, temperature=1.0, saudade=0.0)
    found = weights(schedule, (4.0, 4.0), (2.0, 4.0), (2.0, 1.0))[-1]
    to_first, to_last = pair(0.5, 0.25), pair(1.0, 0.25)
    expected = [0.75 * old + 0.25 * new for old, new in zip(to_first, to_last, strict=True)]
    assert found == pytest.approx(expected, rel=1e-14)


def test_the_random_numbers_of_relobralo_depend_on_the_seed() -> None:
    schedule = Relobralo(MEMBERS, alpha=0.9, saudade=0.5)
    terms = [(1.0 + epoch % 3, 2.0 + epoch % 5) for epoch in range(20)]
    runs = [weights(schedule.resolve(20, seed), *terms) for seed in (0, 0, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2] != runs[3] != runs[0]


def test_saudade_is_the_fraction_of_epochs_that_continue_from_the_last_weights() -> None:
    # With alpha = 1 and equal recent epochs, only a lookback to the first losses changes weights.
    schedule = Relobralo(MEMBERS, alpha=1.0, saudade=0.8).resolve(1000, seed=7)
    state = {**schedule.start(), "first": [1.0, 2.0], "last": [1.0, 1.0]}
    continued = sum(
        schedule.rebalance({**state, "epoch": epoch}, [1.0, 1.0])["weights"] == [1.0, 1.0]
        for epoch in range(1, 1001)
    )
    assert abs(continued - 800) < 4 * math.sqrt(1000 * 0.8 * 0.2)


def test_the_seed_is_set_by_resolve_and_is_not_a_parameter() -> None:
    assert Relobralo(MEMBERS).resolve(10, seed=3).seed == 3
    assert Relobralo(MEMBERS).resolve(10, seed=3) != Relobralo(MEMBERS).resolve(10, seed=4)
    with pytest.raises(TypeError):
        Relobralo(MEMBERS, seed=3)


def test_target_contribution_at_rate_1_meets_the_targets_of_the_last_epoch() -> None:
    schedule = TargetContribution(MEMBERS, targets=(1.0, 3.0), rate=1.0)
    (_, (a, b)) = weights(schedule, (6.0, 2.0))
    assert a * 6.0 / (a * 6.0 + b * 2.0) == pytest.approx(0.25, rel=1e-14)
    assert a + b == pytest.approx(2.0, rel=1e-14)


def test_target_contribution_corrects_a_fraction_of_the_error_in_each_epoch() -> None:
    schedule = TargetContribution(MEMBERS, targets=(1.0, 1.0), rate=0.5)
    # The ratio of the contributions starts at 16; each epoch takes the square root of it.
    found = weights(schedule, *[(16.0, 1.0)] * 3)
    assert [16 * a / b for a, b in found] == pytest.approx([16.0, 4.0, 2.0, math.sqrt(2.0)])


def test_target_contribution_tracks_terms_that_change() -> None:
    schedule = TargetContribution(MEMBERS, targets=(2.0, 1.0), rate=0.2)
    terms = [(10.0 * 0.99**epoch, 0.1 * 0.98**epoch) for epoch in range(200)]
    a, b = weights(schedule, *terms)[-1]
    share = a * terms[-1][0] / (a * terms[-1][0] + b * terms[-1][1])
    assert share == pytest.approx(2 / 3, abs=0.02)


def test_target_contribution_stays_within_its_limits() -> None:
    schedule = TargetContribution(MEMBERS, (1.0, 1.0), rate=1.0, min_value=0.5, max_value=1.25)
    assert weights(schedule, (1e9, 1.0))[-1] == (0.5, 1.25)
    assert weights(schedule, (0.0, 1.0))[-1] == (1.25, 0.5)
    assert weights(schedule, (0.0, 0.0))[-1] == (1.0, 1.0)


@pytest.mark.parametrize("schedule", EVERY, ids=lambda schedule: schedule.family)
@pytest.mark.parametrize("unknown", [{}, {"a": 1.0}, {"a": NAN, "b": 1.0}, {"a": 1.0, "b": INF}])
def test_an_epoch_without_all_terms_changes_nothing(
    schedule: GroupSchedule, unknown: dict[str, float]
) -> None:
    known = [{"a": 3.0, "b": 2.0}, {"a": 2.0, "b": 1.9}, {"a": 1.0, "b": 1.8}]
    with_it = on_terms(schedule, known[0], unknown, known[1], unknown, known[2])
    assert [*with_it[:2], with_it[3], with_it[5]] == on_terms(schedule, *known)


@pytest.mark.parametrize("schedule", EVERY, ids=lambda schedule: schedule.family)
def test_weights_start_at_1_and_are_finite_for_extreme_terms(schedule: GroupSchedule) -> None:
    extremes = (0.0, 1e-320, 1e308, -1e308, 1.0)
    found = weights(schedule, *[(a, b) for a in extremes for b in reversed(extremes)])
    assert found[0] == (1.0, 1.0)
    assert all(math.isfinite(weight) for pair in found for weight in pair)


def test_targets_must_match_the_members_and_have_a_finite_sum() -> None:
    with pytest.raises(ParameterError, match=r"`targets` is \(1\.0,\), but must be one for each"):
        TargetContribution(MEMBERS, targets=(1.0,))
    with pytest.raises(ParameterError, match="their sum is a finite number"):
        TargetContribution(MEMBERS, targets=(1e308, 1e308))


def test_the_limits_of_target_contribution_must_include_the_initial_weight() -> None:
    with pytest.raises(ParameterError, match=r"`min_value` is 1\.5, but must be at most 1"):
        TargetContribution(MEMBERS, targets=(1.0, 1.0), min_value=1.5)
    with pytest.raises(ParameterError, match=r"`max_value` is 0\.5, but must be at least 1"):
        TargetContribution(MEMBERS, targets=(1.0, 1.0), max_value=0.5)
