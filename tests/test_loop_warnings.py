"""What a worker says once about a training loop."""

from __future__ import annotations

import pytest

from tests.searches import DEFAULTS, document, make_study, work


def reading(run):
    """Read the values of the plan at the beginning of an epoch."""
    for _, hp in run:
        run.report(val_loss=hp["lr"])


def reading_steps(run):
    """Read the values at the optimizer steps, and some of them in the first epoch only."""
    for epoch, _ in run:
        rate = run.at(0, of=1)["lr"] if epoch == 0 else 0.1
        run.report(val_loss=rate)


def reading_names(run):
    """Read the names alone."""
    for epoch, hp in run:
        run.report(val_loss=len(list(hp)) + epoch)


for _train in (reading, reading_steps, reading_names):
    _train.hyperparameters = DEFAULTS


@pytest.mark.parametrize("train", [reading, reading_steps, reading_names])
def test_a_loop_that_does_not_read_the_values_of_a_plan_is_named_once(tmp_path, train):
    content = document(train, trials=2, pruner={"name": "none"})
    study = make_study(tmp_path, content | {"task": f"{__name__}:{train.__name__}"})
    said = work(study).wrong
    if train is reading_names:
        [line] = said
        assert line.startswith("the plans move `lr`, but the training loop has not read")
    else:
        assert said == []
