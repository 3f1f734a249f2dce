"""How many workers a command starts on this machine if the user does not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schedsearch.cores import available_cores
from schedsearch.numerics import cores_of_worker

#: Trials for which one more worker pays: it loads the task and its step first.
_TRIALS_PER_WORKER = 10


def workers_that_fit(numerics: Mapping[str, Any], most: int) -> int:
    """Return how many workers with these numerics fill the cores, from 1 to the most."""
    return max(1, min(available_cores() // cores_of_worker(numerics), most))


def workers_for_search(numerics: Mapping[str, Any], trials: int) -> int:
    """Return how many workers train so many trials soonest.

    One for a training loop, which may use all cores and much memory, and one on a GPU.

    >>> workers_for_search({"engine": "loop", "device": "cpu", "threads": 1}, trials=1000)
    1
    >>> workers_for_search({"engine": "lanes", "device": "cpu", "threads": 1}, trials=19)
    1
    """
    if numerics["engine"] == "loop" or numerics["device"] != "cpu":
        return 1
    return workers_that_fit(numerics, trials // _TRIALS_PER_WORKER)
