"""Stale trials: only time that this process observed counts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from schedsearch.storage.stale_trials import StaleTrialDetector

GRACE_PERIOD = 100.0


class Detector:
    """A detector with a clock that the test sets."""

    def __init__(self) -> None:
        self._now = 0.0
        self._detector = StaleTrialDetector(lambda: self._now)

    def at(self, now: float, heartbeats: Mapping[int, str | None]) -> list[int]:
        self._now = now
        return sorted(self._detector.update(heartbeats, GRACE_PERIOD))


def test_a_trial_is_stale_after_exactly_the_grace_period():
    detector = Detector()
    for now in (0, 50, 99):
        assert detector.at(now, {1: "a"}) == []
    assert detector.at(100, {1: "a"}) == [1]
    assert detector.at(101, {1: "a"}) == [1]


def test_a_new_heartbeat_starts_the_grace_period_again():
    detector = Detector()
    for now, heartbeat in ((0, "a"), (50, "a"), (90, "b"), (140, "b"), (189, "b")):
        assert detector.at(now, {1: heartbeat}) == []
    assert detector.at(190, {1: "b"}) == [1]


def test_a_trial_without_any_heartbeat_is_stale_too():
    detector = Detector()
    for now in (0, 50):
        assert detector.at(now, {1: None}) == []
    assert detector.at(100, {1: None}) == [1]


@pytest.mark.parametrize(("pause", "stale"), [(50, [1]), (51, [])])
def test_after_a_pause_of_more_than_half_the_grace_period_the_observation_starts_again(
    pause, stale
):
    detector = Detector()
    for now in (0, 50):
        assert detector.at(now, {1: "a"}) == []
    assert detector.at(50 + pause, {1: "a"}) == stale
    assert detector.at(100 + pause, {1: "a"}) == stale
    assert detector.at(150 + pause, {1: "a"}) == [1]


def test_a_trial_that_was_not_running_in_between_is_observed_again():
    detector = Detector()
    assert detector.at(0, {1: "a", 2: "a"}) == []
    assert detector.at(50, {2: "a"}) == []
    assert detector.at(100, {1: "a", 2: "a"}) == [2]
