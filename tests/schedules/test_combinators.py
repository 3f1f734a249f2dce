"""Combinators: their values, the feedback of inner schedules, and invalid parameters."""

import sys

import pytest

from schedsearch.errors import InputError, ParameterError
from schedsearch.schedules import (
    Clamp,
    Constant,
    Coupled,
    Exponential,
    Feedback,
    GroupSchedule,
    Join,
    Linear,
    Piecewise,
    ReduceOnPlateau,
    Scale,
    Schedule,
    State,
    Warmup,
    from_table,
)


class MetricSum(Schedule):
    """A minimal closed-loop schedule: its value is the sum of the metrics so far."""

    def start(self, time: float = 0) -> State:
        return {"sum": 0.0}

    def evaluate(self, state: State, peers: object, fraction: float = 0) -> float:
        return float(state["sum"])

    def update(self, state: State, feedback: Feedback) -> State:
        return {"sum": state["sum"] + feedback.metric}


class Weights(GroupSchedule):
    def start(self, time: float = 0) -> State:
        return {}

    def evaluate(self, state: State, peers: object, fraction: float = 0) -> dict[str, float]:
        return dict.fromkeys(self.members, 1.0)

    def update(self, state: State, feedback: Feedback) -> State:
        return state


def values(schedule: Schedule, epochs: int, **peers: float) -> list[float | dict[str, float]]:
    """Return the values of a training whose metric at epoch t is 10 ** t."""
    state, found = schedule.start(), []
    for epoch in range(epochs):
        found.append(schedule.evaluate(state, peers))
        state = schedule.update(state, Feedback(metric=10.0**epoch))
    return found


halving = Exponential(initial=8.0, decay_rate=0.5)


def test_warmup_ramps_to_the_first_value_of_the_inner_schedule_and_then_starts_it() -> None:
    schedule = Warmup(halving, duration=2, factor=0.5)
    assert values(schedule, 5) == [4.0, 6.0, 8.0, 4.0, 2.0]


def test_a_closed_loop_schedule_receives_no_feedback_during_its_warmup() -> None:
    assert values(Warmup(MetricSum(), duration=2), 5) == [0.0, 0.0, 0.0, 100.0, 1100.0]


def test_shares_in_a_warmed_up_schedule_are_shares_of_the_epochs_after_the_warmup() -> None:
    schedule = Warmup(Linear(1.0, 0.0, "100%"), duration="20%").resolve(10, seed=0)
    assert schedule == Warmup(Linear(1.0, 0.0, 8), duration=2)


def test_joined_schedules_count_epochs_from_their_own_start() -> None:
    schedule = Join((halving, Linear(0.0, 1.0, 2), Constant(5.0)), boundaries=(2, 4))
    assert values(schedule, 6) == [8.0, 4.0, 0.0, 0.5, 5.0, 5.0]


def test_a_joined_closed_loop_schedule_receives_the_feedback_of_its_own_epochs_only() -> None:
    assert values(Join((MetricSum(), MetricSum()), boundaries=(2,)), 5) == [
        0.0,
        1.0,
        0.0,
        100.0,
        1100.0,
    ]


def test_shares_in_joined_schedules_are_shares_of_their_own_epochs() -> None:
    halves = Join((Piecewise((1.0, 2.0)), Piecewise((3.0, 4.0))), boundaries=("50%",))
    assert values(halves.resolve(8, seed=0), 8) == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]


def test_boundaries_in_two_units_may_cross_and_skip_the_schedule_between_them() -> None:
    three = Join((Constant(1.0), Constant(2.0), Constant(3.0)), boundaries=("50%", 3))
    assert values(three.resolve(4, seed=0), 5) == [1.0, 1.0, 2.0, 3.0, 3.0]
    assert values(three.resolve(8, seed=0), 6) == [1.0, 1.0, 1.0, 1.0, 3.0, 3.0]


def test_scale_multiplies_and_clamp_bounds() -> None:
    assert values(Scale(halving, factor=-2.0), 3) == [-16.0, -8.0, -4.0]
    assert values(Clamp(halving, low=3.0, high=5.0), 4) == [5.0, 4.0, 3.0, 3.0]
    assert values(Clamp(MetricSum(), low=0.5, high=5.0), 4) == [0.5, 1.0, 5.0, 5.0]


def test_coupled_multiplies_the_current_value_of_another_hyperparameter() -> None:
    schedule = Coupled(factor=halving, to="lr")
    assert schedule.dependencies == ("lr",)
    assert values(schedule, 3, lr=0.5) == [4.0, 2.0, 1.0]


def test_dependencies_are_collected_from_every_depth_without_duplicates() -> None:
    inner = Coupled(factor=Coupled(factor=Constant(1.0), to="momentum"), to="lr")
    joined = Join((Clamp(inner, low=0.0, high=1.0), Coupled(Constant(2.0), "lr")), (5,))
    assert Warmup(Scale(joined, 2.0)).dependencies == ("lr", "momentum")


def test_a_group_cannot_be_an_inner_schedule() -> None:
    group = Weights(members=("weights.a", "weights.b"))
    for combined in (lambda: Scale(group, 2.0), lambda: Join((Constant(1.0), group), (5,))):
        with pytest.raises(ParameterError, match=r"must be .*a schedule of one hyperparameter"):
            combined()


def test_an_invalid_parameter_of_a_combinator_is_refused_with_the_rule() -> None:
    with pytest.raises(ParameterError, match=r"`low` is 2.0, but must be at most `high`"):
        Clamp(halving, low=2.0, high=1.0)
    with pytest.raises(ParameterError, match="at least two schedules"):
        Join((halving,), boundaries=())
    with pytest.raises(ParameterError, match="one boundary between each schedule and the next"):
        Join((halving, halving), boundaries=(2, 3))
    with pytest.raises(ParameterError, match=r"`boundaries` .* must be in ascending order"):
        Join((halving,) * 3, boundaries=("60%", "50%"))
    with pytest.raises(ParameterError, match="the name of a hyperparameter"):
        Coupled(halving, to="")
    with pytest.raises(InputError, match="did you mean `decay_rate`"):
        from_table({"scale": {"inner": {"exponential": {"decay": 1}}, "factor": 2}})


def test_a_product_that_overflows_is_the_largest_float():
    plateau = ReduceOnPlateau(initial=1e300)
    schedule = Scale(plateau, factor=1e10).resolve(10, 0)
    assert schedule.evaluate(schedule.start(), {}) == sys.float_info.max
    coupled = Coupled(Constant(-1e200), to="lr")
    assert coupled.evaluate(coupled.start(), {"lr": 1e200}) == -sys.float_info.max
