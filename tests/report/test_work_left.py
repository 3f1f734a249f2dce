"""The epochs that are left are known within a factor of two after a tenth of the trials."""

from __future__ import annotations

import random

import pytest
from optuna.trial import TrialState

from schedsearch.report.status import read_status
from schedsearch.report.work_left import epochs_left, mean_epochs
from schedsearch.storage import BatchedStorage
from tests.storage.studies import study_at

HORIZON = 60


def halving(rng: random.Random) -> int:
    """Return the epochs of a trial: a quarter is exempt, of the rest a third passes each rung."""
    if rng.random() < 0.25:
        return HORIZON
    return next(epochs for epochs in (10, 30, HORIZON) if epochs == HORIZON or rng.random() > 1 / 3)


def simulate(lengths: list[int], lanes: int, ended: int) -> tuple[list[int], list[int], int]:
    """Train until some trials have ended; return their epochs, those of running ones, and rounds.

    The last number is how many more rounds the whole search takes.
    """
    waiting, live, done = list(lengths), [], []
    seen, rounds = None, 0
    while live or waiting:
        if len(done) >= ended and seen is None:
            seen = ([*done], [trained for trained, _ in live], rounds)
        while waiting and len(live) < lanes:
            live.append((0, waiting.pop(0)))
        live = [(trained + 1, length) for trained, length in live]
        done += [length for trained, length in live if trained == length]
        live = [(trained, length) for trained, length in live if trained < length]
        rounds += 1
    assert seen is not None
    return seen[0], seen[1], rounds - seen[2]


@pytest.mark.parametrize("lanes", [1, 8, 24])
@pytest.mark.parametrize("trials", [100, 400])
@pytest.mark.parametrize("seed", range(5))
def test_after_a_tenth_of_the_trials_the_work_left_is_right_within_a_factor_of_two(
    lanes, trials, seed
):
    rng = random.Random(seed)
    lengths = [halving(rng) for _ in range(trials)]
    ended, running, rounds = simulate(lengths, lanes, trials // 10)
    estimated = epochs_left(ended, running, trials, HORIZON, share=0.5) / lanes
    assert rounds / 2 < estimated < 2 * rounds


def test_the_mean_of_the_trials_that_ended_first_would_be_too_low():
    rng = random.Random(0)
    lengths = [halving(rng) for _ in range(400)]
    ended, running, _ = simulate(lengths, 24, 40)
    true = sum(lengths) / len(lengths)
    assert sum(ended) / len(ended) < 0.7 * true
    assert mean_epochs(ended, running, HORIZON, share=0.5) == pytest.approx(true, rel=0.3)


def test_without_pruning_every_trial_takes_the_horizon():
    assert epochs_left([9] * 20, [], 30, horizon=9, share=1.0) == 90
    assert epochs_left([], [], 30, horizon=9, share=1.0) == 270


def test_when_all_trials_have_ended_nothing_is_left():
    assert epochs_left([3, 9], [], 2, horizon=9, share=0.5) == 0


def test_status_counts_all_reports_of_a_trial(tmp_path):
    study = study_at(f"sqlite:///{tmp_path}/studies.db", trials=10)
    storage = BatchedStorage(study.database)
    with storage.batch(study.study_id, "ann") as batch:
        batch.claim(2)
    with storage.batch(study.study_id, "ann"):
        for trial_id, epochs in zip(batch.claimed, (5, 7), strict=True):
            for epoch in range(1, epochs + 1):
                storage.set_trial_intermediate_value(trial_id, epoch, 0.5)
        storage.set_trial_state_values(batch.claimed[0], TrialState.FAIL)
    space = study.space
    left = epochs_left([5], [7], 10, space.horizon, space.search.expected_share)
    assert read_status(study).epochs_left == left
