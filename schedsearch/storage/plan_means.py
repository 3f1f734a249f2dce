"""The plans of a study, each with its mean over all its runs, and their ranking."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from schedsearch.space import Space
from schedsearch.storage.attributes import DIVERGED, PLAN, RACED_TRIAL, RUNS, SEED, STOPPED_AFTER


@dataclass(frozen=True)
class PlanMean:
    """A plan with its runs, one for each seed.

    Attributes:
        trial: the first complete trial with the plan, which stands for it.
        trials: all its complete trials.
        values: the objective of each run that did not diverge.
        diverged: how many of its further runs diverged.
        error: the standard error of the mean, from the spread over the seeds in the better half of
            the plans with several runs; None if there is no such plan.
    """

    trial: FrozenTrial
    trials: tuple[FrozenTrial, ...]
    values: tuple[float, ...]
    diverged: int = 0
    error: float | None = None

    @property
    def number(self) -> int:
        """The number of the trial that stands for the plan."""
        return int(self.trial.number)

    @property
    def mean(self) -> float:
        """The mean of the objective over the runs that did not diverge."""
        if len(self.trials) == 1:
            return _value(self.trial)
        return _mean(self.values)

    @property
    def seeds(self) -> int:
        """The number of runs that did not diverge."""
        return len(self.values)

    @property
    def stopped_after(self) -> int | None:
        """After how many epochs the trial that stands for the plan stopped before the horizon."""
        stopped: int | None = self.trial.user_attrs.get(STOPPED_AFTER)
        return stopped


def is_race_run(trial: FrozenTrial) -> bool:
    """Return whether a trial trains a further seed of a plan that another trial has tried."""
    return RACED_TRIAL in trial.user_attrs


def plan_key(trial: FrozenTrial) -> str:
    """Return a text that is equal for trials with the same plan."""
    return json.dumps(trial.user_attrs.get(PLAN), sort_keys=True)


def rank_plans(
    space: Space, trials: Iterable[FrozenTrial], *, constant: bool | None = None
) -> list[PlanMean]:
    """Return the plans of complete trials with a finite value, best first.

    See `plan_means` and `rank_means` for the arguments.
    """
    return rank_means(space, plan_means(space, trials), constant=constant)


def plan_means(space: Space, trials: Iterable[FrozenTrial]) -> list[PlanMean]:
    """Return the plans of complete trials with a finite value, by number.

    A plan counts once, with its mean over all runs of all its trials.

    Args:
        space: of their study.
        trials: any trials of the study, by number.
    """
    complete: dict[str, list[FrozenTrial]] = {}
    diverged: dict[str, int] = {}
    for trial in trials:
        if trial.state is TrialState.COMPLETE and math.isfinite(_value(trial)):
            complete.setdefault(plan_key(trial), []).append(trial)
        elif DIVERGED in trial.user_attrs and is_race_run(trial):
            key = plan_key(trial)
            diverged[key] = diverged.get(key, 0) + 1
    plans = [
        PlanMean(of_plan[0], tuple(of_plan), values_by_seed(of_plan), diverged.get(key, 0))
        for key, of_plan in complete.items()
    ]
    spread = _spread(space, plans)
    if spread is not None:
        plans = [replace(plan, error=spread / math.sqrt(plan.seeds)) for plan in plans]
    return sorted(plans, key=lambda plan: plan.number)


def rank_means(
    space: Space, plans: Iterable[PlanMean], *, constant: bool | None = None
) -> list[PlanMean]:
    """Return plans, best first; see `rank_by_runs`. Those with a run that diverged come last.

    Args:
        space: of their study.
        plans: all plans of the study.
        constant: True keeps the plans of constants only, False the other plans only.
    """
    chosen = [
        plan
        for plan in plans
        if constant is None
        or space.is_constant_plan(plan.trial.user_attrs.get(PLAN, {})) == constant
    ]
    sign = space.objective.to_minimize(1.0)
    runs = [[sign * value for value in plan.values] for plan in chosen]
    ranked = [chosen[place] for place in rank_by_runs(runs, space.search.seeds)]
    return sorted(ranked, key=lambda plan: plan.diverged > 0)


def _spread(space: Space, plans: Sequence[PlanMean]) -> float | None:
    """Return the deviation over the seeds in the better half of the plans with several runs.

    Plans that are bad with some seeds would hide how sure the means of the good ones are.
    """
    to_minimize = space.objective.to_minimize
    several = sorted((to_minimize(p.mean), p.values) for p in plans if p.seeds > 1)
    return pooled_deviation(values for _, values in several[: math.ceil(len(several) / 2)])


def rank_by_runs(plans: Sequence[Sequence[float]], seeds: int = 1) -> list[int]:
    """Return the order of plans, best first, that compares them on equal seeds only.

    Some seeds are easier than others, and plans have further runs because their first ones were
    good. So a mean over five seeds and the value of one cannot be compared. Plans are ranked by the
    mean over the runs that all of them have. If n of them have one more run, the best n are ranked
    before the others, provided that they have it, and in the same way among themselves.

    Args:
        plans: the values of each plan's runs in the order of their seeds; lower is better.
        seeds: the number of runs that all plans have.

    >>> rank_by_runs([[1.0, 9.0], [2.0, 3.0], [3.0]])
    [1, 0, 2]
    """
    remaining, levels = list(range(len(plans))), list[list[int]]()
    for runs in count(seeds):
        remaining = sorted(remaining, key=lambda plan: (_mean(plans[plan][:runs]), plan))
        with_more = sum(len(plans[plan]) > runs for plan in remaining)
        best = [plan for plan in remaining[:with_more] if len(plans[plan]) > runs]
        chosen = set(best)
        levels.append([plan for plan in remaining if plan not in chosen])
        if not best:
            break
        remaining = best
    return [plan for level in reversed(levels) for plan in level]


def _mean(values: Sequence[float]) -> float:
    # Divided first: the sum of large values would overflow.
    return math.fsum(value / len(values) for value in values)


def values_by_seed(trials: Sequence[FrozenTrial]) -> tuple[float, ...]:
    """Return the objective of each run of one plan, by seed; the first run with a seed counts."""
    if len(trials) == 1 and len(trials[0].user_attrs.get(RUNS, ())) <= 1:
        return (_value(trials[0]),)
    found: dict[int, float] = {}
    for trial in trials:
        own: list[dict[str, Any]] = [
            {"seed": trial.user_attrs.get(SEED, -1), "value": _value(trial)}
        ]
        for run in trial.user_attrs.get(RUNS) or own:
            if run["value"] is not None:
                found.setdefault(run["seed"], run["value"])
    return tuple(found[seed] for seed in sorted(found)) or (_value(trials[0]),)


def pooled_deviation(samples: Iterable[Sequence[float]]) -> float | None:
    """Return the standard deviation within samples, pooled; None if each has one value.

    >>> pooled_deviation([[1.0, 3.0], [5.0, 5.0], [7.0]])
    1.0
    """
    several = [values for values in samples if len(values) > 1]
    if not several:
        return None
    freedom = sum(len(values) - 1 for values in several)
    try:
        squares = sum(statistics.variance(values) * (len(values) - 1) for values in several)
        return math.sqrt(squares / freedom)
    except OverflowError:
        return math.inf


def _value(trial: FrozenTrial) -> float:
    return math.nan if trial.value is None else trial.value
