"""A worker that is restarted knows how many of its trials failed in a row."""

from __future__ import annotations

from datetime import datetime, timedelta

from optuna.trial import FrozenTrial, TrialState, create_trial

from schedsearch.worker.failures import Failures

NOON = datetime(2026, 1, 1, 12)


def ended(number: int, minute: int, state: TrialState = TrialState.FAIL, **attributes: int):
    trial = create_trial(state=state, user_attrs=attributes, values=None)
    trial.number, trial.datetime_complete = number, NOON + timedelta(minutes=minute)
    return trial


def given_up(*before: FrozenTrial) -> bool:
    return Failures("mine:Task", before).too_many is not None


def test_three_in_a_row_are_too_many():
    assert given_up(*(ended(number, number) for number in range(3)))
    pruned = ended(1, 1, TrialState.PRUNED)
    assert not given_up(ended(0, 0), pruned, ended(2, 2), ended(3, 3))


def test_what_was_handed_back_is_no_failure():
    assert not given_up(*(ended(number, number, superseded_by=9) for number in range(3)))


def test_trials_that_hung_in_one_epoch_failed_once():
    assert not given_up(*(ended(number, 0) for number in range(4)))


def test_a_trial_that_still_runs_does_not_count():
    running = create_trial(state=TrialState.RUNNING)
    assert not given_up(ended(0, 0), ended(1, 1), running)
