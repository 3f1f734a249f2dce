"""The trials of a study as a sampler observes them: parameters as arrays, and a ranking."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from schedsearch.samplers.normal import Array

Rows = npt.NDArray[np.intp]

_OBSERVED_STATES = (TrialState.COMPLETE, TrialState.PRUNED)


class Observations:
    """The parameters of a study's trials; an update reads a trial only until it has finished.

    The row of a trial is its number. Complete and pruned trials are ranked. Of running trials only
    the parameters are used. Failed and waiting trials are ignored.

    Args:
        direction: of the objective.
    """

    def __init__(self, direction: StudyDirection) -> None:
        self.distributions: dict[str, BaseDistribution] = {}
        self._sign = -1.0 if direction is StudyDirection.MAXIMIZE else 1.0
        self._columns: dict[str, Array] = {}
        self._capacity = 0
        self._seen = 0
        #: How many parameters are stored of each unfinished trial, by number.
        self._unfinished: dict[int, int] = {}
        self._ranking: list[tuple[int, float, float, int]] = []
        self._parameter_sets: set[frozenset[str]] = set()
        self._groups: list[frozenset[str]] = []

    # --- updates -------------------------------------------------------------------------------

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Read what changed; `trials` are all trials of the study in the order of their numbers."""
        for trial in self._unfinished_trials(trials):
            if trial.state.is_finished():
                self._finish(trial)
            elif trial.state is TrialState.RUNNING:
                stored = self._unfinished[trial.number]
                if len(trial.params) > stored:
                    self._store(trial)
                    self._unfinished[trial.number] = len(trial.params)

    def _unfinished_trials(self, trials: Sequence[FrozenTrial]) -> Iterator[FrozenTrial]:
        end = trials[-1].number + 1 if trials else 0
        # A number is missing until its trial is committed.
        by_number = trials if end == len(trials) else {trial.number: trial for trial in trials}
        self._unfinished |= dict.fromkeys(range(self._seen, end), 0)
        self._seen = max(self._seen, end)
        for number in list(self._unfinished):
            if number < end and (isinstance(by_number, Sequence) or number in by_number):
                yield by_number[number]

    def _finish(self, trial: FrozenTrial) -> None:
        del self._unfinished[trial.number]
        if trial.state not in _OBSERVED_STATES:
            for column in self._columns.values():
                column[trial.number : trial.number + 1] = math.nan
            return
        self._store(trial)
        bisect.insort(self._ranking, self._rank(trial))
        names = frozenset(trial.params)
        if names not in self._parameter_sets:
            self._parameter_sets.add(names)
            self._groups = list(_split_groups(self._groups, names))

    def _store(self, trial: FrozenTrial) -> None:
        if trial.number >= self._capacity:
            more = max(64, self._seen)
            for name, column in self._columns.items():
                self._columns[name] = np.append(column, np.full(more, math.nan))
            self._capacity += more
        for name, distribution in trial.distributions.items():
            if name not in self._columns:
                self._columns[name] = np.full(self._capacity, math.nan)
            self._columns[name][trial.number] = distribution.to_internal_repr(trial.params[name])
            self.distributions[name] = distribution

    def _rank(self, trial: FrozenTrial) -> tuple[int, float, float, int]:
        """Return a sort key, best first: complete before pruned, later before earlier pruned."""
        if trial.state is TrialState.COMPLETE:
            assert trial.value is not None
            return 0, 0.0, self._sign * trial.value, trial.number
        if not trial.intermediate_values:
            return 2, 0.0, 0.0, trial.number
        step = max(trial.intermediate_values)
        value = trial.intermediate_values[step]
        return 1, -step, math.inf if math.isnan(value) else self._sign * value, trial.number

    # --- queries -------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """The number of ranked trials: complete or pruned."""
        return len(self._ranking)

    def parameter_group(self, name: str) -> frozenset[str]:
        """Return the parameters that occur in exactly the ranked trials in which this one does."""
        return next((group for group in self._groups if name in group), frozenset())

    def has_finished(self, number: int) -> bool:
        """Return whether a trial is known to have finished."""
        return number < self._seen and number not in self._unfinished

    def is_running(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return for each row whether its trial is unfinished."""
        running = np.zeros(self._capacity, dtype=bool)
        running[[number for number in self._unfinished if number < self._capacity]] = True
        return running[rows]

    def best_rows(self, count: int | None = None) -> list[int]:
        """Return the rows of the `count` best trials, or of all ranked trials, best first."""
        return [rank[-1] for rank in self._ranking[:count]]

    def has_all(self, names: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Return for each row whether its trial has all these parameters."""
        mask = np.ones(self._capacity, dtype=bool)
        for name in names:
            column = self._columns.get(name)
            mask &= False if column is None else ~np.isnan(column)
        return mask

    def values(self, names: Sequence[str], rows: Rows) -> Array:
        """Return parameters, shape (rows, names), in Optuna's internal representation."""
        if not len(rows):
            return np.empty((0, len(names)))
        return np.stack([self._columns[name][rows] for name in names], axis=1)


def _split_groups(
    groups: Iterable[frozenset[str]], names: frozenset[str]
) -> Iterator[frozenset[str]]:
    """Split each group into the part in `names` and the rest; new names are one more group."""
    for group in groups:
        yield from filter(None, (group & names, group - names))
        names -= group
    if names:
        yield names
