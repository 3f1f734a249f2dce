"""Runs in one batched step: an error in one run does not affect the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from schedsearch.engines import EpochResult
from schedsearch.engines.lanes.engine import LanesEngine
from schedsearch.plan import Plan
from schedsearch.run import Run
from schedsearch.space import Space
from schedsearch.training import train_epoch
from tests.engines.toys import Brittle
from tests.scripted import ScriptedEngine, run_of

HORIZON = 6
#: The final blur: the third run leaves the table of four values in its fifth epoch.
FINALS = (0.5, 1.0, 6.0, 2.0)


def runs_of(engine: LanesEngine, finals: tuple[float, ...] = FINALS) -> list[Run]:
    content = {
        "name": "brittle",
        "task": "tests.engines.toys:Brittle",
        "horizon": HORIZON,
        "objective": {"metric": "val_loss"},
    }
    space = Space.from_document(content, "brittle.toml").with_defaults(Brittle().hyperparameters)
    runs = []
    for lane, final in enumerate(finals):
        linear = {"linear": {"initial": 0.0, "final": final}}
        plan = Plan.from_tables({"hyperparameters": {"blur": {"families": linear}}})
        runs.append(Run(engine, space=space, plan=plan, seed=lane))
        runs[-1].enter_lane(lane)
    return runs


def train(runs: list[Run]) -> dict[Run, Exception]:
    """Train to the horizon; return the runs that raised, with their errors."""
    raised: dict[Run, Exception] = {}
    while training := [run for run in runs if run not in raised and not run.ended]:
        for run, result in train_epoch(training).items():
            if isinstance(result, Exception):
                raised[run] = result
                run.leave_lane()
            else:
                run.record_epoch(result)
    return raised


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.long)])
def test_if_a_step_raises_only_the_run_that_caused_it_fails_and_the_others_stay_exact(compiled):
    engine = LanesEngine(Brittle(), 4, compiled=compiled)
    first, second, failing, fourth = runs = runs_of(engine)
    raised = train(runs)
    assert list(raised) == [failing]
    assert failing.epochs == 4

    undisturbed = runs_of(engine, (0.5, 1.0, 0.0, 2.0))
    assert train(undisturbed) == {}
    for run, alike in ((first, undisturbed[0]), (second, undisturbed[1]), (fourth, undisturbed[3])):
        assert run.epochs == HORIZON
        assert run.history == alike.history
        assert run.epochs_trained == HORIZON + 4  # the epochs before the error were trained again


def test_two_runs_that_both_cause_an_error_both_fail():
    runs = runs_of(LanesEngine(Brittle(), 4, compiled=False), (0.5, 6.0, 7.0, 2.0))
    raised = train(runs)
    assert set(raised) == {runs[1], runs[2]}
    assert all(isinstance(error, IndexError) for error in raised.values())


def test_runs_with_different_errors_are_not_trained_again():
    class TwoErrors(ScriptedEngine):
        """An engine of two lanes, each of which raises a different error."""

        lanes = 2

        def train_epoch(
            self, values: Sequence[Mapping[str, float] | None]
        ) -> list[EpochResult | Exception | None]:
            self.trained.append(self.epoch)
            return [ZeroDivisionError(), IndexError()]

    engine = TwoErrors([])
    runs = [run_of(engine), run_of(engine)]
    for lane, run in enumerate(runs):
        run.enter_lane(lane)
    results = train_epoch(runs)
    assert [type(results[run]) for run in runs] == [ZeroDivisionError, IndexError]
    assert len(engine.trained) == 1
