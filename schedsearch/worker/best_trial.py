"""Callbacks for each new best trial, which give it a picture in the dashboard."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from optuna.trial import FrozenTrial

from schedsearch.errors import summarize_exception
from schedsearch.storage import BatchedStorage, StudyHandle, rank_plans
from schedsearch.storage.attributes import RACED_TRIAL
from schedsearch.worker.trial import LiveTrial


class BestTrialCallback(Protocol):
    """Shows a search in another place, for instance in a dashboard."""

    def on_best_trial(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> Mapping[str, str]:
        """Return the system attributes that show a new best trial's picture."""

    def refresh(self, trials: Sequence[FrozenTrial]) -> None:
        """Show the present state of the study."""


class BestTrialNotifier:
    """Calls a callback for each new best trial; its errors never stop the search.

    Any other trial costs one comparison: the study's trials are searched only if a value is better
    than all that this worker has seen. A run of a race only brings the study's note up to date.

    Args:
        study: the study.
        storage: has the worker's trials.
        callback: the callback; None: none is called.
        warn: prints a line about an error of the callback.
    """

    def __init__(
        self,
        study: StudyHandle,
        storage: BatchedStorage,
        callback: BestTrialCallback | None,
        warn: Callable[[str], None],
    ) -> None:
        self._study, self._storage, self._callback, self._warn = study, storage, callback, warn
        self._best = math.inf
        self._is_stale = False

    def notify(self, live: LiveTrial) -> None:
        """Give a new best trial its attributes, before it ends: an ended trial is immutable."""
        objective = self._study.space.objective
        rank = objective.to_minimize(live.value)
        if self._callback is None:
            return
        if RACED_TRIAL in live.trial.user_attrs:
            # One more run changes the mean of its plan, and may change which plan is the best.
            self._is_stale, self._best = True, math.inf
            return
        if not rank < self._best:
            return
        trials = self._trials()
        before = rank_plans(self._study.space, trials)
        best = objective.to_minimize(before[0].mean) if before else math.inf
        self._best = min(best, rank)
        if rank >= best:
            return
        self._is_stale = True
        try:
            trial = self._storage.get_trial(live.trial_id)
            attributes = self._callback.on_best_trial(trial, trials)
        except Exception as error:
            self._warn(f"trial {live.trial.number} gets no picture: {summarize_exception(error)}")
            return
        for key, value in attributes.items():
            self._storage.set_trial_system_attr(live.trial_id, key, value)

    def refresh(self) -> None:
        """Call `refresh` of the callback, if a best trial was committed since the last time."""
        if self._callback is not None and self._is_stale:
            self._is_stale = False
            try:
                self._callback.refresh(self._trials())
            except Exception as error:
                self._warn(f"the dashboard's note is out of date: {summarize_exception(error)}")

    def _trials(self) -> list[FrozenTrial]:
        # Through another handle: this one would keep all trials in memory.
        return replace(self._study).trials()
