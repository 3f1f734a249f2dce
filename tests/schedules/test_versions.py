"""Durations and end points in the newest version of the rules, and in version 1."""

import random
from decimal import ROUND_HALF_UP, Decimal

import pytest

from schedsearch.errors import InputError, ParameterError
from schedsearch.plan import Plan
from schedsearch.schedules import (
    Constant,
    Cosine,
    Cyclical,
    Exponential,
    GaussianRamp,
    Geometric,
    Interval,
    Join,
    Linear,
    LogisticRamp,
    Noise,
    OneCycle,
    OpenLoop,
    Polynomial,
    Scale,
    Triangular,
    WarmRestarts,
    Warmup,
    WarmupStableDecay,
)
from schedsearch.schedules.durations import has_passed, to_epochs
from schedsearch.schedules.phases import resolve_boundaries, resolve_phases


def values(schedule: OpenLoop, horizon: int) -> list[float]:
    resolved = schedule.resolve(horizon, seed=0)
    return [resolved.at(epoch) for epoch in range(horizon)]


# --- shares --------------------------------------------------------------------------------------


def test_every_tie_of_a_share_rounds_up() -> None:
    for horizon in range(1, 201):
        for percent in range(1, 100):
            exact = Decimal(percent) * horizon / 100
            expected = int(exact.quantize(Decimal(1), ROUND_HALF_UP))
            assert to_epochs(f"{percent}%", horizon) == max(1, expected)


def test_version_1_rounds_in_binary() -> None:
    assert (to_epochs("29%", 50, version=1), to_epochs("29%", 50)) == (14, 15)


# --- phases --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule", [WarmupStableDecay(0.0, 1.0, 0.0), OneCycle(0.0, 1.0, 0.0)], ids=lambda s: s.family
)
def test_the_phases_add_up_to_every_horizon(schedule: OpenLoop) -> None:
    for horizon in range(1, 1001):
        resolved = schedule.resolve(horizon, seed=0)
        lengths = [getattr(resolved, name) for name in schedule.phases]
        assert sum(lengths) == horizon
        assert all(isinstance(length, int) and length >= 0 for length in lengths)
        assert horizon < len(lengths) or all(lengths)
        assert sum(getattr(schedule.resolve(horizon, 0, "step"), n) for n in schedule.phases) == (
            pytest.approx(horizon, abs=1e-9)
        )


def test_the_decay_of_the_defaults_shows_in_short_trainings() -> None:
    schedule = WarmupStableDecay(0.0, 1.0, 0.0)
    assert values(schedule, 8) == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5]
    assert values(schedule, 15)[-3:] == pytest.approx([1.0, 2 / 3, 1 / 3])
    assert [values(schedule, horizon)[-1] for horizon in (1, 2, 3)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("phases", "horizon", "expected"),
    [
        ((2, "rest", "20%"), 10, (2, 6, 2)),
        ((2, "rest", 3), 4, (2, 0, 3)),
        (("rest", 0, 3), 10, (7, 0, 3)),
        ((5, "0%", "1%"), 5, (5, 0, 1)),
        (("1%", 5, "1%"), 5, (0, 5, 1)),
        (("1%", "98%", "1%"), 10, (1, 8, 1)),
    ],
)
def test_given_epochs_are_kept_and_shares_make_room(
    phases: tuple[int | str, ...], horizon: int, expected: tuple[int, ...]
) -> None:
    needed = [False, False, True]
    assert resolve_phases(phases, horizon, "epoch", needed=needed, version=2) == expected


def test_the_rest_is_not_rounded_by_step() -> None:
    schedule = WarmupStableDecay(0.0, 1.0, 0.0, warmup=0.25, stable="rest", decay="15%")
    resolved = schedule.resolve(5, 0, "step")
    assert (resolved.warmup, resolved.stable, resolved.decay) == (0.25, 4.0, 0.75)


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_a_rest_of_nothing_is_one_epoch_after_the_horizon(interval: Interval) -> None:
    for version in (1, 2):
        schedule = OneCycle(0.0, 1.0, 0.0, rise=5, fall="rest", version=version)
        assert schedule.resolve(5, 0, interval).fall == 1


def test_each_schedule_of_a_join_has_an_epoch_if_there_is_room() -> None:
    parts = (Constant(1.0), Constant(2.0), Constant(3.0))
    for horizon in range(3, 200):
        for shares in (("1%", "2%"), ("10%", "20%"), ("98%", "99%"), ("50%", "50.1%")):
            begin, end = Join(parts, shares).resolve(horizon, 0).boundaries
            assert 0 < begin < end < horizon
    assert Join(parts, ("10%", "20%")).at_version(2).resolve(5, 0).boundaries == (1, 1)
    assert Join(parts, ("10%", "20%")).resolve(2, 0).boundaries == (1, 1)
    assert Join(parts, ("10%", "20%")).resolve(5, 0, "step").boundaries == (0.5, 1.0)


def test_a_warmup_in_shares_leaves_an_epoch() -> None:
    durations = {h: Warmup(Constant(1.0), "95%").resolve(h, 0).duration for h in (1, 2, 10)}
    assert durations == {1: 1, 2: 1, 10: 9}
    assert Warmup(Constant(1.0), "95%").at_version(2).resolve(10, 0).duration == 10
    assert Warmup(Constant(1.0), 12).resolve(10, 0).duration == 12


@pytest.mark.parametrize(
    ("boundaries", "expected"),
    [
        ((3, "31%"), (3, 4)),
        ((3, "20%"), (3, 3)),
        (("20%", 2), (2, 2)),
        ((50, "90%"), (50, 50)),
        (("95%", "150%"), (10, 15)),
    ],
)
def test_boundaries_in_epochs_are_kept(
    boundaries: tuple[int | str, ...], expected: tuple[int, ...]
) -> None:
    assert resolve_boundaries(boundaries, 10, "epoch", version=3) == expected


def test_only_one_phase_may_be_the_rest() -> None:
    with pytest.raises(ParameterError, match=r"`fall` is 'rest', but must be .* `rise` is"):
        OneCycle(0.0, 1.0, 0.0, rise="rest", fall="rest")
    with pytest.raises(
        ParameterError, match="`duration` is 'rest', but must be a number of epochs"
    ):
        Linear(0.0, 1.0, duration="rest")


# --- the last epoch ------------------------------------------------------------------------------


def test_no_cycle_begins_in_the_last_epoch() -> None:
    for horizon in range(2, 1000):
        assert values(WarmRestarts(1.0, 0.0), horizon)[-1] < 1.0
    assert values(WarmRestarts(1.0, 0.0), 5)[-2:] == [1.0, 0.0]
    for cycles in range(1, 8):
        assert values(WarmRestarts(1.0, 0.0, 10, cycles=cycles), 41)[-1] < 1.0
    assert values(WarmRestarts(1.0, 0.0, 10, cycles=2), 41)[19:22] == [
        pytest.approx(0.0245, abs=1e-4),
        0.0,
        0.0,
    ]
    assert values(WarmRestarts(1.0, 0.0, version=1), 5)[-1] == 1.0


def test_the_last_epoch_of_short_cyclical_annealing_is_not_the_begin_of_a_cycle() -> None:
    for horizon in range(2, 100):
        assert values(Cyclical(0.0, 1.0), horizon)[-1] > 0.0
    assert values(Cyclical(0.0, 1.0), 5) == [0.0, 1.0, 0.0, 0.0, 1.0]
    assert values(Cyclical(0.0, 1.0, version=1), 5)[-1] == 0.0


@pytest.mark.parametrize(
    "schedule",
    [
        Linear(1.0, 0.1, endpoint=True),
        Polynomial(1.0, 0.1, 2.0, endpoint=True),
        Cosine(1.0, 0.1, endpoint=True),
        OneCycle(0.0, 1.0, 0.1, endpoint=True),
        WarmupStableDecay(0.0, 1.0, 0.1, endpoint=True),
    ],
    ids=lambda schedule: schedule.family,
)
def test_the_last_epoch_trains_with_the_final_value_if_asked(schedule: OpenLoop) -> None:
    for horizon in range(2, 101):
        assert values(schedule, horizon)[-1] == 0.1
    resolved = schedule.resolve(10, 0, "step")
    assert resolved.at(9.0) == 0.1 != resolved.at(8.75)


def test_restarts_with_a_multiplier_near_1_are_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(boundary: float, time: float) -> bool:
        calls.append(1)
        return has_passed(boundary, time)

    monkeypatch.setattr("schedsearch.schedules.cycles.has_passed", counted)
    schedule = WarmRestarts(1.0, 0.0, 1, 1.0001)
    resolved = schedule.resolve(1000, 0)
    assert len(calls) < 5 * 1000
    for epoch in (0, 1, 2, 10, 500, 998):
        expected = WarmRestarts(1.0, 0.0, 1, 1.0001, version=2).at(epoch)
        assert resolved.at(epoch) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("multiplier", [1.0 + 1e-12, 1.0001, 1.1, 1.25, 1.49])
@pytest.mark.parametrize("period", [1, 3, 0.3])
def test_restarts_in_closed_form_are_those_one_by_one(multiplier: float, period: float) -> None:
    schedule, one_by_one = (
        WarmRestarts(1.0, 0.0, period, multiplier, version=version) for version in (3, 2)
    )
    for time in [t / 7 for t in range(300)]:
        cycle, since, length = schedule._cycle(time)
        assert (cycle, length) == (
            one_by_one._cycle(time)[0],
            pytest.approx(one_by_one._cycle(time)[2]),
        )
        assert since == pytest.approx(one_by_one._cycle(time)[1], abs=1e-9)


# --- end points ----------------------------------------------------------------------------------


def test_end_points_are_exact_for_random_pairs() -> None:
    numbers = random.Random(0)
    off_in_version_1 = 0
    for _ in range(2000):
        first, last = (10 ** numbers.uniform(-4, 1) for _ in range(2))
        assert Cosine(first, last, 7).at(0) == first
        assert Polynomial(first, last, 2.0, 7).at(0) == first
        assert WarmRestarts(first, last, 7).at(14) == first
        assert OneCycle(0.0, first, last, 3, 4).at(3) == first
        assert Triangular(last, first, 3, 4).at(3) == first
        for epoch in range(8):
            assert min(first, last) <= Cosine(first, last, 7).at(epoch) <= max(first, last)
        off_in_version_1 += Cosine(first, last, 7, version=1).at(0) != first
    assert off_in_version_1 > 100


@pytest.mark.parametrize(
    "schedule",
    [
        Linear(1.0, 0.1, endpoint=True),
        Geometric(1.0, 0.1, endpoint=True),
        Cosine(1.0, 0.1, endpoint=True, exponent=0.1),
        Cyclical(1.0, 0.1, endpoint=True),
        GaussianRamp(1.0, 0.1, endpoint=True),
        WarmupStableDecay(0.0, 1.0, 0.1, endpoint=True),
    ],
    ids=lambda schedule: schedule.family,
)
def test_end_points_are_exact_where_a_schedule_begins_within_an_epoch(schedule: OpenLoop) -> None:
    for horizon in range(5, 200):
        joined = Join((Constant(1.0), schedule), ("30%",)).resolve(horizon, 0, "step")
        begin = joined.boundaries[0]
        assert isinstance(begin, float)
        inner = joined.schedules[1]
        assert isinstance(inner, OpenLoop)
        assert inner.at(horizon - 1 - begin) == 0.1


def test_a_logistic_ramp_stays_between_its_values() -> None:
    numbers = random.Random(0)
    beyond = 0
    pairs = [[10 ** numbers.uniform(-4, 1) for _ in range(2)] for _ in range(500)]
    for first, last in [(0.7, 0.1), *pairs]:
        ramp = LogisticRamp(first, last, width="1%").resolve(100, seed=0)
        assert ramp.at(99) == last
        for epoch in range(100):
            assert min(first, last) <= ramp.at(epoch) <= max(first, last)
        beyond += ramp.at_version(2).at(99) != last
    assert beyond > 50
    plan = Plan({("a",): LogisticRamp(0.7, 0.1, width="1%")}, {"a": (0.1, 0.7)}).resolve(100, 0)
    assert not any(plan.evaluate(plan.start(epoch))[1] for epoch in range(100))


def test_the_peak_is_exact_where_a_warmup_ends_within_an_epoch() -> None:
    for warmup in (0.3, 0.7, 1.1, 2.3):
        schedule = WarmupStableDecay(0.0, 0.7, 0.1, warmup, 1.0, 1.0)
        for rounding in (-1e-15, 0.0, 1e-15):
            assert schedule.at(warmup + rounding) == 0.7


# --- noise ---------------------------------------------------------------------------------------


def noise_of(version: int, seed: int = 0) -> dict[str, float]:
    schedule = Noise(Constant(1.0)).at_version(version)
    plan = Plan({("lr",): schedule, ("weight_decay",): schedule}).resolve(10, seed)
    return plan.values(plan.start())


def test_each_hyperparameter_has_its_own_noise() -> None:
    new, old = noise_of(3), noise_of(2)
    assert new["lr"] != new["weight_decay"]
    assert new == noise_of(3)
    assert not set(new.values()) & set(noise_of(3, seed=1).values())
    assert old["lr"] == old["weight_decay"] == 0.7197918351370587


# --- versions ------------------------------------------------------------------------------------


def test_tables_record_the_version_of_a_plan() -> None:
    plan = Plan({("lr",): Scale(Cosine(0.3, 0.1), 2.0)})
    assert plan.to_tables()["schedule_version"] == plan.version == 3
    older = {key: value for key, value in plan.to_tables().items() if key != "schedule_version"}
    assert Plan.from_tables(older).version == 1
    assert "schedule_version" not in Plan.from_tables(older).to_tables()
    assert Plan.from_tables(plan.to_tables()) == plan != Plan.from_tables(older)


def test_versions_cannot_be_mixed() -> None:
    old, new = Exponential(1.0, 0.9, version=1), Exponential(1.0, 0.9)
    with pytest.raises(InputError, match="follow the versions"):
        Plan({("a",): old, ("b",): new})
    with pytest.raises(ParameterError, match="`version` is 3, but must be 1, that of the schedule"):
        Join((old, new), (3,))
    with pytest.raises(InputError, match="`version` is 4, but must be from 1 to 3"):
        Plan.from_tables({"schedule_version": 4, "hyperparameters": {"lr": {"default": 0.1}}})


def test_a_plan_at_another_version_is_another_plan_also_within_combinators() -> None:
    plan = Plan({("lr",): Join((Exponential(1.0, 0.9), Scale(Cosine(0.3, 0.1), 2.0)), (3,))})
    older = plan.at_version(1)
    assert older.version == 1
    assert older.at_version(3) == plan != older
