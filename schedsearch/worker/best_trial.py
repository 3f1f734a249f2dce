"""A new best trial is shown to whoever looks on: its picture goes with it into the database."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from optuna.trial import FrozenTrial

from schedsearch.errors import summarize_exception
from schedsearch.storage import BatchedStorage, StudyHandle, ranked
from schedsearch.worker.trial import LiveTrial


class BestTrialCallback(Protocol):
    """Shows a search elsewhere, a dashboard for instance."""

    def on_best_trial(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> Mapping[str, str]:
        """Return the system attributes by which a new best trial shows its picture."""

    def refresh(self, trials: Sequence[FrozenTrial]) -> None:
        """Show how the study stands now."""


class BestTrialNotifier:
    """Tells an onlooker of each new best trial; what fails there never holds up the search.

    Any other trial costs one comparison: the study's trials are looked through only where a value
    is better than all that this worker has met.
    """

    def __init__(
        self,
        study: StudyHandle,
        storage: BatchedStorage,
        best_trial_callback: BestTrialCallback | None,
        say: Callable[[str], None],
    ) -> None:
        self._study, self._storage, self._callback, self._say = (
            study,
            storage,
            best_trial_callback,
            say,
        )
        self._best = math.inf
        self._is_stale = False

    def on_best_trial(self, live: LiveTrial) -> None:
        """Give a new best trial its picture, before it ends: then nothing can be added to it."""
        space = self._study.space
        lower = space.objective.to_minimize(live.value)
        if self._callback is None or not lower < self._best:
            return
        trials = self._trials()
        before = ranked(space, trials)
        best = space.objective.to_minimize(before[0].value or 0.0) if before else math.inf
        self._best = min(best, lower)
        if lower >= best:
            return
        self._is_stale = True
        try:
            attributes = self._callback.on_best_trial(
                self._storage.get_trial(live.trial_id), trials
            )
        except Exception as error:
            self._say(f"trial {live.trial.number} gets no picture: {summarize_exception(error)}")
            return
        for key, value in attributes.items():
            self._storage.set_trial_system_attr(live.trial_id, key, value)

    def refresh(self) -> None:
        """Show how the study stands, if a best trial was written since the last time."""
        if self._callback is not None and self._is_stale:
            self._is_stale = False
            try:
                self._callback.refresh(self._trials())
            except Exception as error:
                self._say(f"the dashboard's note is not current: {summarize_exception(error)}")

    def _trials(self) -> list[FrozenTrial]:
        return self._storage.get_all_trials(self._study.study_id, deepcopy=False)
