"""Shares of the trials that a search may train."""

from __future__ import annotations

import math


def trials_in_share(share: float, trials: int, epochs: int | None, horizon: int) -> int:
    """Return how many trials up to the horizon a share of a budget allows.

    Args:
        share: from 0 to 1.
        trials: the maximum number of trials.
        epochs: the maximum number of epochs that all trials report together; None: no limit.
        horizon: the maximum number of epochs of one trial.

    >>> trials_in_share(0.25, trials=100, epochs=800, horizon=20)
    10
    """
    most = trials if epochs is None else min(trials, epochs // horizon)
    return math.floor(share * most)
