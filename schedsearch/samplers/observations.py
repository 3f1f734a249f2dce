"""What a sampler remembers of a study's trials: parameters as arrays, and the order of the best."""

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
from schedsearch.storage import WOULD_PRUNE

Rows = npt.NDArray[np.intp]

_LEARNED_FROM = (TrialState.COMPLETE, TrialState.PRUNED)


class Observations:
    """The parameters of a study's trials, each read when it changes and not again once finished.

    A row is a trial's number. Trials that are complete or pruned are ranked; of those that run, the
    parameters are known; those that failed or wait leave no trace.

    Args:
        direction: of the objective.
    """

    def __init__(self, direction: StudyDirection) -> None:
        self.distributions: dict[str, BaseDistribution] = {}
        self._sign = -1.0 if direction is StudyDirection.MAXIMIZE else 1.0
        self._columns: dict[str, Array] = {}
        self._capacity = 0
        self._seen = 0
        self._unfinished: dict[int, int] = {}
        self._ranking: list[tuple[int, float, float, int]] = []
        self._signatures: set[frozenset[str]] = set()
        self._groups: list[frozenset[str]] = []

    # --- taking in -----------------------------------------------------------------------------

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in what changed: `trials` are all of the study's, by increasing number."""
        for trial in self._changed(trials):
            if trial.state.is_finished():
                self._finish(trial)
            elif trial.state is TrialState.RUNNING:
                known = self._unfinished[trial.number]
                if len(trial.params) > known:
                    self._write(trial)
                    self._unfinished[trial.number] = len(trial.params)

    def _changed(self, trials: Sequence[FrozenTrial]) -> Iterator[FrozenTrial]:
        end = trials[-1].number + 1 if trials else 0
        # Where a trial is committed late, its number is missing at first.
        found = trials if end == len(trials) else {trial.number: trial for trial in trials}
        self._unfinished |= dict.fromkeys(range(self._seen, end), 0)
        self._seen = max(self._seen, end)
        for number in list(self._unfinished):
            if number < end and (isinstance(found, Sequence) or number in found):
                yield found[number]

    def _finish(self, trial: FrozenTrial) -> None:
        del self._unfinished[trial.number]
        if trial.state not in _LEARNED_FROM:
            for column in self._columns.values():
                column[trial.number : trial.number + 1] = math.nan
            return
        self._write(trial)
        bisect.insort(self._ranking, self._rank(trial))
        signature = frozenset(trial.params)
        if signature not in self._signatures:
            self._signatures.add(signature)
            self._groups = list(_refined(self._groups, signature))

    def _write(self, trial: FrozenTrial) -> None:
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
        """Return what sorts trials, best first: complete before pruned, then the later pruned.

        One that is complete only for the audit counts as what the pruner would have made of it, or
        the worst that are audited would come before the best that are pruned.
        """
        would_prune = trial.user_attrs.get(WOULD_PRUNE)
        if trial.state is TrialState.COMPLETE and would_prune is None:
            assert trial.value is not None
            return 0, 0.0, self._sign * trial.value, trial.number
        if not trial.intermediate_values:
            return 2, 0.0, 0.0, trial.number
        step = would_prune or max(trial.intermediate_values)
        value = trial.intermediate_values[step]
        return 1, -step, math.inf if math.isnan(value) else self._sign * value, trial.number

    # --- giving out ----------------------------------------------------------------------------

    @property
    def finished(self) -> int:
        """The number of trials that are complete or pruned."""
        return len(self._ranking)

    def group(self, name: str) -> frozenset[str]:
        """Return the parameters that a finished trial has if it has this one, and lacks if not."""
        return next((group for group in self._groups if name in group), frozenset())

    def has_ended(self, number: int) -> bool:
        """Tell whether a trial was seen, and had ended."""
        return number < self._seen and number not in self._unfinished

    def is_running(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Tell for each row whether its trial is unfinished."""
        running = np.zeros(self._capacity, dtype=bool)
        running[[number for number in self._unfinished if number < self._capacity]] = True
        return running[rows]

    def ranked(self, count: int | None = None) -> list[int]:
        """Return the rows of the best finished trials, or of all of them, best first."""
        return [rank[-1] for rank in self._ranking[:count]]

    def holding(self, names: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Tell for each row whether its trial has all these parameters."""
        held = np.ones(self._capacity, dtype=bool)
        for name in names:
            column = self._columns.get(name)
            held &= False if column is None else ~np.isnan(column)
        return held

    def values(self, names: Sequence[str], rows: Rows) -> Array:
        """Return parameters, shape (rows, names), in Optuna's internal representation."""
        if not len(rows):
            return np.empty((0, len(names)))
        return np.stack([self._columns[name][rows] for name in names], axis=1)


def _refined(groups: Iterable[frozenset[str]], names: frozenset[str]) -> Iterator[frozenset[str]]:
    """Split groups where a set of names cuts them; the names that are new are a group."""
    for group in groups:
        yield from filter(None, (group & names, group - names))
        names -= group
    if names:
        yield names
