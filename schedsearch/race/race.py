"""The race of a study: it plans how the budget is divided between new plans and further seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from schedsearch.race.halving import Halving, fit
from schedsearch.space import Space
from schedsearch.storage import Budget, NextTrials, is_race_run, plan_key, require_attribute
from schedsearch.storage.attributes import PLAN, RACED_TRIAL, SEED, UNPRUNED, is_superseded


@dataclass
class _Plan:
    """A plan that a complete trial tried, and its further runs by seed; lower values are better."""

    number: int
    tables: Mapping[str, Any]
    value: float
    is_constant: bool
    further: dict[int, float] = field(default_factory=dict)


def make_race(space: Space) -> Race | None:
    """Return the race of a space; None if it has none."""
    return Race(space) if space.search.race is not None and space.search.race.top else None


class Race:
    """Plans further runs of the best schedules and of the best constants; a `BudgetPlanner`.

    The race begins when half of the budget is spent, and takes up to half of its share then. The
    rest of its share is kept until all other trials have ended. What it does not need is spent on
    new plans.

    All decisions depend on the recorded trials only, and are made in the transaction that queues
    the runs. So the race continues where it was, whichever worker decides, and no run is queued
    twice. A finished trial is read once. Use one race per study.

    Args:
        space: with a race.
    """

    def __init__(self, space: Space) -> None:
        assert space.search.race is not None
        self._space, self._options = space, space.search.race
        self._seeds = space.search.seeds
        #: The first seed that no trial of the search trains.
        self._first_seed = space.search.seed + self._seeds
        self._plans: dict[str, _Plan] = {}
        self._ended = 0
        self._unfinished: list[int] = []
        self._seen = 0

    def next_trials(
        self,
        trials: Callable[[], Sequence[FrozenTrial]],
        budget: Budget,
        *,
        remaining: int,
        is_half_spent: bool,
    ) -> NextTrials:
        """Return the further runs to queue now, and how many new plans may be tried."""
        limit = budget.trials_in_share(self._options.share)
        races = fit(self._options.top, self._options.rounds, limit)
        if races is None:
            return NextTrials((), remaining)
        most = sum(sum(race.sizes) for race in races)
        if remaining > most and not is_half_spent:
            return NextTrials((), remaining - most)  # no trial need be read
        rows = trials()
        self._update(rows)
        pending = sum(is_race_run(rows[number]) for number in self._unfinished)
        others = len(self._unfinished) - pending
        left = min(limit - self._ended - pending, remaining)
        early = max(0, limit // 2 - self._ended) if is_half_spent and not pending else 0
        if remaining > most and not early:
            return NextTrials((), remaining - most)  # what is due need not be known
        due = [] if pending else self._due(races)
        kept = min(max(0, self._most_outstanding(races) - pending), left)
        if remaining > kept:
            return NextTrials(self._runs(due[:early]), remaining - max(kept, len(due[:early])))
        if pending or (due and others):
            return NextTrials((), 0)
        if due and left > 0:
            return NextTrials(self._runs(due[:left]), 0)
        # The race is over, unless one of the trials that still run changes that.
        return NextTrials((), max(0, remaining - others))

    # --- the recorded trials ---------------------------------------------------------------------

    def _update(self, trials: Sequence[FrozenTrial]) -> None:
        numbers = [*self._unfinished, *range(self._seen, len(trials))]
        self._seen = len(trials)
        self._unfinished = []
        for number in numbers:
            trial = trials[number]
            if not trial.state.is_finished():
                self._unfinished.append(number)
            elif not is_superseded(trial):
                self._add(trial)

    def _add(self, trial: FrozenTrial) -> None:
        value = self._value(trial)
        key = plan_key(trial)
        if is_race_run(trial):
            self._ended += 1
            if key in self._plans:
                seed = require_attribute(self._space.name, trial, SEED)
                self._plans[key].further.setdefault(seed, value)
        elif math.isfinite(value):
            tables = require_attribute(self._space.name, trial, PLAN)
            is_constant = self._space.is_constant_plan(tables)
            self._plans.setdefault(key, _Plan(trial.number, tables, value, is_constant))

    def _value(self, trial: FrozenTrial) -> float:
        """Return the value to minimise; infinite if the trial failed or diverged."""
        value = trial.value if trial.state is TrialState.COMPLETE else None
        return math.inf if value is None else self._space.objective.to_minimize(value)

    # --- the decisions ---------------------------------------------------------------------------

    def _group(self, *, constant: bool) -> tuple[list[_Plan], list[list[float]]]:
        """Return the schedules or the constants, each with the values of its runs."""
        plans = [plan for plan in self._plans.values() if plan.is_constant == constant]
        plans.sort(key=lambda plan: plan.number)
        return plans, [self._values(plan) for plan in plans]

    def _values(self, plan: _Plan) -> list[float]:
        values = [plan.value] * self._seeds
        while (seed := self._first_seed + len(values) - self._seeds) in plan.further:
            values.append(plan.further[seed])
        return values

    def _most_outstanding(self, races: tuple[Halving, Halving]) -> int:
        return sum(
            race.most_outstanding(self._group(constant=constant)[1], self._seeds)
            for race, constant in zip(races, (False, True), strict=True)
        )

    def _due(self, races: tuple[Halving, Halving]) -> list[tuple[_Plan, int]]:
        """Return the plans whose further runs are due, each with the seed of its run."""
        found = []
        for race, constant in zip(races, (False, True), strict=True):
            plans, values = self._group(constant=constant)
            for place in race.next_runs(values, self._seeds):
                found.append((plans[place], self._first_seed + len(values[place]) - self._seeds))
        # The best first, of both kinds: if the budget ends within a round, the others stay out.
        return sorted(found, key=lambda run: (run[1], run[0].value, run[0].number))

    @staticmethod
    def _runs(due: Sequence[tuple[_Plan, int]]) -> list[dict[str, Any]]:
        """Return the user attributes of the trials that train these runs."""
        return [
            {PLAN: plan.tables, SEED: seed, RACED_TRIAL: plan.number, UNPRUNED: True}
            for plan, seed in due
        ]
