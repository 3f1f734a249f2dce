"""How many epochs a search will still train, estimated from those that it has trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

#: The expected share of trained epochs counts as much as so many trials that were observed.
_PRIOR_TRIALS = 4.0


def mean_epochs(ended: Sequence[int], running: Sequence[int], horizon: int, share: float) -> float:
    """Return how many epochs a trial trains on average.

    The trials that have ended first are those that were pruned early, so their mean is too low. The
    estimate of Kaplan and Meier takes into account that running trials will train at least as long
    as they have: with n trials that reached epoch t and d that ended after it, a trial continues
    with the probability 1 - d / n. In epochs that no trial has reached, none ends.

    Args:
        ended: the number of epochs of each trial that has ended.
        running: the number of epochs that each running trial has trained so far.
        horizon: the number of epochs of a full training.
        share: the expected share of the horizon, which decides while few trials have ended.

    >>> mean_epochs([], [], horizon=60, share=0.5)
    30.0
    >>> round(mean_epochs([10] * 300, [10] * 150, horizon=60, share=0.5))
    27
    """
    ends, reached = Counter(ended), Counter([*ended, *running])
    survival, mean, at_risk = 1.0, 0.0, len(ended) + len(running)
    for epoch in range(horizon):
        # Those that reached this epoch, and have not just been counted as ended before it.
        if at_risk:
            survival *= 1 - ends[epoch] / at_risk
        at_risk -= reached[epoch]
        mean += survival
    weight = len(ended) / (len(ended) + _PRIOR_TRIALS)
    return weight * mean + (1 - weight) * share * horizon


def epochs_left(
    ended: Sequence[int], running: Sequence[int], total: int, horizon: int, share: float
) -> float:
    """Return how many epochs all trials together will still train.

    Args:
        ended, running, horizon, share: see `mean_epochs`.
        total: the number of trials of the study.
    """
    mean = mean_epochs(ended, running, horizon, share)
    begun = sum(max(mean - epochs, 1.0) for epochs in running)
    new = max(0, total - len(ended) - len(running)) * mean
    # While the last trials run, the places of those that have ended are empty.
    return begun + new + len(running) * mean / 4
