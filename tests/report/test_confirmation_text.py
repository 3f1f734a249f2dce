"""What the text of a confirmation says beside the verdicts."""

from __future__ import annotations

from typing import Any

import pytest

from schedsearch.report.confirmation import confirmation_lines


def plan(number: int, mean: float, verdict: str = "no difference seen") -> dict[str, Any]:
    against = {"number": 0, "difference": -0.1, "interval": [-0.3, 0.1], "wins": 6, "losses": 2}
    entry = {"number": number, "mean": mean, "diverged": 0, "plan": {}, "difference": -0.1}
    return entry | {
        "verdict": verdict,
        "level": 0.05,
        "p": 0.2,
        "seeds_to_show": None,
        "against": [against],
    }


def lines_of(*plans: dict[str, Any], direction: str = "minimize") -> list[str]:
    constant = {"number": 0, "mean": 0.5, "diverged": 0, "plan": {}}
    result = {"metric": "error", "direction": direction, "test": True, "seeds": [1, 9]}
    result |= {"baseline": constant, "constants": [constant], "plans": list(plans)}
    return confirmation_lines(result)


@pytest.mark.parametrize(
    ("direction", "sign", "better", "worse"),
    [("minimize", "negative", "below", "above"), ("maximize", "positive", "above", "below")],
)
def test_it_says_which_sign_of_a_difference_is_better(direction, sign, better, worse):
    lines = lines_of(plan(3, 0.4), direction=direction)
    assert lines[1:4] == [
        f"difference: schedule minus constant; {sign}: the schedule is better, as error is "
        f"{direction}d",
        f"a schedule is better if all its intervals are {better} 0, and worse if one is {worse} 0",
        "intervals: 95 %, for one comparison",
    ]


def order_of(*plans: dict[str, Any]) -> list[str]:
    return [line for line in lines_of(*plans) if line.startswith("of these schedules")]


def test_it_says_if_another_schedule_was_best_in_the_search():
    first = "of these schedules, trial 5 was the best in the search; on the fresh seeds, trial"
    assert order_of(plan(5, 0.4), plan(3, 0.3, "better")) == [f"{first} 3 is the winner"]
    assert order_of(plan(5, 0.4), plan(3, 0.3)) == [f"{first} 3 is the one with the best mean"]
    assert order_of(plan(5, 0.3, "better"), plan(3, 0.4, "better")) == []
    assert order_of(plan(5, 0.3)) == []
