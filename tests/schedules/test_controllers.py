"""GECO and the PI controller: exact values from the formulas of the papers."""

import math

import pytest

from schedsearch.errors import ParameterError
from schedsearch.schedules.controllers import Geco, Pi
from tests.schedules.replay import on_terms

NAN, INF = math.nan, math.inf


def kl(*values: float) -> list[dict[str, float]]:
    return [{"kl": value} for value in values]


def test_geco_multiplies_by_the_exponential_of_the_average_violation() -> None:
    schedule = Geco("kl", tolerance=1.0, rate=0.5, smoothing=0.5, initial=2.0)
    # Averages of the term: 3, (3 + 1) / 2 = 2, (2 - 2) / 2 = 0.
    growth = [0.0, 1.0, 1.0 + 0.5, 1.0 + 0.5 - 0.5]
    expected = [2.0 * math.exp(exponent) for exponent in growth]
    assert on_terms(schedule, *kl(3.0, 1.0, -2.0)) == pytest.approx(expected, rel=1e-14)


def test_geco_without_smoothing_uses_the_term_itself() -> None:
    schedule = Geco("kl", tolerance=1.0, rate=math.log(2.0), smoothing=0.0)
    values = on_terms(schedule, *kl(2.0, 2.0, 0.0, 1.0))
    assert values == pytest.approx([1.0, 2.0, 4.0, 2.0, 2.0], rel=1e-14)


def test_geco_with_a_negative_rate_grows_while_the_constraint_is_met() -> None:
    schedule = Geco("kl", tolerance=1.0, rate=-math.log(2.0), smoothing=0.0)
    values = on_terms(schedule, *kl(2.0, 2.0, 0.0, 1.0))
    assert values == pytest.approx([1.0, 0.5, 0.25, 0.5, 0.5], rel=1e-14)


@pytest.mark.parametrize(("rate", "faster"), [(1.0, 0.125), (-1.0, 8.0)])
def test_the_speedup_of_geco_counts_only_while_the_constraint_is_met(
    rate: float, faster: float
) -> None:
    schedule = Geco("kl", 1.0, rate * math.log(2.0), smoothing=0.0, speedup=3.0)
    violated, met, at_the_tolerance = (kl(term) for term in (2.0, 0.0, 1.0))
    assert on_terms(schedule, *violated)[1] == pytest.approx(2.0**rate, rel=1e-14)
    assert on_terms(schedule, *met)[1] == pytest.approx(faster, rel=1e-14)
    assert on_terms(schedule, *at_the_tolerance)[1] == 1.0


def test_geco_stays_within_its_limits_for_extreme_terms() -> None:
    schedule = Geco("kl", tolerance=0.0, rate=1.0, smoothing=0.0, min_value=0.1, max_value=10.0)
    values = on_terms(schedule, *kl(1e308, 1e308, -1e308, -1e308, 0.0))
    assert values == [1.0, 10.0, 10.0, 0.1, 0.1, 0.1]


def test_pi_is_the_formula_of_the_paper_within_its_range() -> None:
    schedule = Pi("kl", set_point=10.0, proportional_gain=0.01, integral_gain=0.001)
    terms = (30.0, 20.0, 9.0)
    integrals = [0.001 * 20, 0.001 * (20 + 10), 0.001 * (20 + 10 - 1)]
    expected = [
        0.01 / (1 + math.exp(10.0 - term)) + integral
        for term, integral in zip(terms, integrals, strict=True)
    ]
    assert on_terms(schedule, *kl(*terms)) == pytest.approx([0.0, *expected], rel=1e-13)


def test_the_integral_of_pi_does_not_wind_up() -> None:
    schedule = Pi("kl", set_point=10.0, proportional_gain=1e-9, integral_gain=0.1, initial=0.5)
    values = on_terms(schedule, *kl(20.0, 20.0, 20.0, 12.0, 5.0, -90.0, -90.0, 11.0))
    expected = [0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0, 0.1]
    assert values == pytest.approx(expected, abs=1e-8)


def test_pi_starts_at_its_initial_value_and_stays_within_its_limits() -> None:
    schedule = Pi("kl", 0.0, 0.5, 0.01, initial=2.0, min_value=1.0, max_value=3.0)
    assert on_terms(schedule, *kl(0.0, -1000.0)) == [2.0, 2.25, 1.0]
    assert on_terms(schedule, *kl(1e308, 1e308)) == [2.0, 3.0, 3.0]


@pytest.mark.parametrize(
    "schedule", [Geco("kl", tolerance=0.0, rate=0.5), Pi("kl", 0.0, 0.1, 0.01, initial=0.5)]
)
@pytest.mark.parametrize("unknown", [{}, {"kl": NAN}, {"kl": INF}, {"kl": -INF}])
def test_an_epoch_without_a_finite_term_changes_nothing(
    schedule: Geco | Pi, unknown: dict[str, float]
) -> None:
    with_it = on_terms(schedule, unknown, {"kl": 1.0}, unknown, {"kl": 2.0})
    without = on_terms(schedule, {"kl": 1.0}, {"kl": 2.0})
    assert [with_it[1], with_it[2], with_it[4]] == without
    assert with_it[3] == with_it[2]


def test_an_initial_value_outside_its_limits_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"geco: the value of `initial` is 2\.0, but must be"):
        Geco("kl", tolerance=0.0, rate=1.0, initial=2.0, max_value=1.5)
    with pytest.raises(ParameterError, match=r"pi: the value of `initial` is 2\.0, but must be"):
        Pi("kl", 0.0, 0.1, 0.01, initial=2.0)


def test_a_controller_needs_a_term() -> None:
    with pytest.raises(ParameterError, match="`term` is '', but must be the name of a loss term"):
        Geco("", tolerance=0.0, rate=1.0)
