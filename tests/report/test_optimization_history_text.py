"""The plots of `status --plot` share their axes, and one bad value does not spoil them."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from optuna.trial import create_trial

from schedsearch.report.optimization_history import FinishedTrial, best_so_far_words
from schedsearch.report.optimization_history_text import optimization_history_lines
from schedsearch.space import Objective, Space
from tests.searches import document


def study_of(values, *, constants):
    """Return a study whose trials ended one after another with these values."""
    space = Space.from_document(document(), "small.toml")
    trials = []
    for number, value in enumerate(values):
        family = {"constant": {"value": 0.1 + number / 100}}
        if number not in constants:
            family = {"linear": {"initial": 0.1 + number / 100, "final": 0.2, "duration": 3}}
        trial = create_trial(
            value=value, user_attrs={"plan": {"hyperparameters": {"lr": {"families": family}}}}
        )
        trial.number = number
        trial.datetime_complete = datetime(2026, 1, 1) + timedelta(seconds=number)
        trials.append(trial)
    return SimpleNamespace(space=space, rows=lambda: trials)


def test_the_axis_is_that_of_the_later_values_and_says_so():
    values = [1000.0, *(2.0 - 0.05 * n for n in range(19))]
    lines = list(optimization_history_lines(study_of(values, constants=range(20)), 80))
    assert lines[0].strip() == "val_loss, best so far, first values cut"
    assert lines[1].startswith("    1.95 ┤")
    assert lines[8].startswith("     1.1 ┤")


def test_both_plots_have_the_trials_that_ended_on_one_scale():
    values = [1.0 - 0.01 * n for n in range(20)]
    lines = list(optimization_history_lines(study_of(values, constants=range(10, 20)), 80))
    titles = [i for i, line in enumerate(lines) if "so far" in line]
    ends = [line for line in lines if "trials ended: 20" in line]
    assert (len(titles), len(ends)) == (2, 2)
    every, constant = (lines[i + 1 : i + 9] for i in titles)
    left = [row.split("┤")[1][:20].strip("\u2800") for row in constant]
    assert not any(left), "no constant had ended in the first half"
    right = [row.split("┤")[1][30:] for row in constant]
    assert right == [row.split("┤")[1][30:] for row in every]


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1), ("maximize", -1)])
def test_a_best_value_that_gets_worse_says_why(direction, sign):
    objective = Objective(metric="val_loss", direction=direction)

    def ended(*values):
        return [FinishedTrial(n, n, n, sign * v, False, None, None) for n, v in enumerate(values)]

    assert best_so_far_words(ended(3.0, 2.0, 1.0), objective) == "best so far"
    # A plan whose first run was lucky, then one with several runs.
    words = best_so_far_words(ended(3.0, 1.0, 2.0), objective)
    assert words == "best so far, as all runs rank it now"
