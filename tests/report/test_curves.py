"""The curves of a trial at the interval "step": drawn within epochs where the record agrees."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import FrozenTrial, create_trial

from schedsearch.plan import Plan
from schedsearch.report.pictures.curves import curves_of
from schedsearch.schedules import Linear
from schedsearch.space import Space
from schedsearch.storage.attributes import EVERY, PLAN, VALUES
from tests.searches import document

EPOCHS = 4
PLAN_BY_STEP = Plan({("lr",): Linear(1.0, 0.0, 4.0)}, intervals={"lr": "step"})
SPACE = Space.from_document(document() | {"horizon": EPOCHS}, "small.toml")


def trial_with(values: list[float], every: int = 1) -> FrozenTrial:
    recorded: dict[str, Any] = {VALUES: {"lr": values}, PLAN: PLAN_BY_STEP.to_tables()}
    return create_trial(
        value=0.5,
        intermediate_values=dict.fromkeys(range(1, EPOCHS + 1), 0.5),
        user_attrs=recorded | ({EVERY: every} if every > 1 else {}),
    )


@pytest.mark.parametrize(("values", "every"), [([1.0, 0.75, 0.5, 0.25], 1), ([1.0, 0.5], 2)])
def test_values_within_epochs_are_drawn_where_the_record_agrees(
    values: list[float], every: int
) -> None:
    """Of a long run, only some epochs are recorded."""
    found = curves_of(SPACE, trial_with(values, every)).schedules["lr"]
    assert found == pytest.approx([1 - i / len(found) for i in range(len(found))])
    assert len(found) == 400


def test_other_recorded_values_are_drawn_as_they_are() -> None:
    """As of a schedule that reacted to the results of other seeds too."""
    values = [1.0, 0.75, 0.4, 0.25]
    assert curves_of(SPACE, trial_with(values)).schedules["lr"] == values
