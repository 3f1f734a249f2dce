"""Do the winners hold? The best schedules and constants, in full, on seeds the search never met."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from schedsearch.errors import InputError, SchedSearchError, StudyError
from schedsearch.fresh import Job, Outcome, Recipe, metric_on_test, train_all
from schedsearch.paired import Judgement, Paired, Verdict, fewest_seeds, judge, seeds_to_show
from schedsearch.plan import Plan
from schedsearch.space import Objective
from schedsearch.storage import StudyHandle, plan_of
from schedsearch.task import fingerprint, load_task
from schedsearch.training import fresh_seeds

#: The study attribute that keeps the result.
ATTRIBUTE = "confirmation"
#: How many constants, beside the default, every schedule has to beat.
CONSTANTS = 3


@dataclass(frozen=True)
class Candidate:
    """A plan to confirm, and the trial that carries it; None for a default that has no trial."""

    number: int | None
    plan: Plan


@dataclass(frozen=True)
class Contender:
    """A candidate with its runs, in the order of the seeds.

    Attributes:
        values: the metric of each run; a diverged one has the worst value of all other runs.
        diverged: how many runs diverged.
    """

    number: int | None
    plan: Plan
    values: tuple[float, ...]
    diverged: int

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.values)


def confirm(
    study: StudyHandle,
    *,
    top: int,
    seeds: int,
    workers: int,
    reuse: bool = True,
    progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """Train the best schedules and the best constants on fresh seeds, judge, and keep the result.

    The constants are the study's three best distinct ones and the default; all is trained on the
    same seeds, and compared in pairs by the metric on the test split. Where the task gives no such
    metric, by validation. A run that diverged counts as the worst of all that did not: the least
    that can be said against it. A plan that diverged more often than some constant is never called
    better than it.

    Args:
        study: whose trials.
        top: how many distinct schedules, best by the search's own value first.
        seeds: how many fresh seeds.
        workers: how many processes train.
        reuse: do not train again what is known, and keep what is trained.
        progress: told how many runs are done, and of how many.
        should_stop: asked now and then.

    Returns:
        What the study then keeps as its attribute "confirmation": see `document`.

    Raises:
        StudyError: no schedule is complete, or the task is not the one that the study searched.
        InputError: so few seeds could show nothing.
        SchedSearchError: a run failed, or all diverged.
    """
    schedules, constants = candidates(study, top)
    if seeds < (least := fewest_seeds(len(schedules))):
        raise InputError(
            f"--seeds is {seeds}, but must be at least {least}: with fewer, none of "
            f"{len(schedules)} schedules could be told from luck"
        )
    _check_task(study)
    chosen = [*schedules, *constants]
    fresh = fresh_seeds(study.space, seeds)
    # Seed by seed, since runs with the same seed share their data.
    jobs = [Job(candidate.plan.to_tables(), seed) for seed in fresh for candidate in chosen]
    recipe = Recipe(
        space=study.space.to_document(),
        numerics=study.record.numerics,
        fingerprint=study.record.fingerprint,
        storage=study.database.url if reuse else None,
    )
    outcomes = train_all(
        recipe,
        jobs,
        workers=workers,
        progress=lambda done: progress(done, len(jobs)),
        should_stop=should_stop,
    )
    metric, values = common_metric(outcomes, study.space.objective.metric)
    runs = [values[i :: len(chosen)] for i in range(len(chosen))]
    contenders = contend(chosen, runs, study.space.objective)
    count = len(schedules)
    result = document(contenders[:count], contenders[count:], study.space.objective, metric, fresh)
    study.database.optuna.set_study_user_attr(study.study_id, ATTRIBUTE, result)
    return result


def kept(study: StudyHandle) -> dict[str, Any] | None:
    """Return the result that the study keeps of its last confirmation."""
    found: dict[str, Any] | None = study.database.optuna.get_study_user_attrs(study.study_id).get(
        ATTRIBUTE
    )
    return found


def winner(result: Mapping[str, Any]) -> int | None:
    """Return the trial of the best plan that was found better than every constant, if any was."""
    better = [plan for plan in result["plans"] if plan["verdict"] == Verdict.BETTER]
    sign = 1 if result["direction"] == "minimize" else -1
    best = min(better, key=lambda plan: sign * plan["mean"], default=None)
    return None if best is None else best["number"]


def _check_task(study: StudyHandle) -> None:
    space = study.space
    task = load_task(space.task, space.document.arguments)
    if fingerprint(task, space.task, space.document.arguments) != study.record.fingerprint:
        raise StudyError(
            f"{space.task} is not what study `{study.name}` searched: its source, arguments or "
            "data changed"
        )


# --- who takes part ------------------------------------------------------------------------------


def candidates(study: StudyHandle, top: int) -> tuple[list[Candidate], list[Candidate]]:
    """Return the best distinct schedules, and the best distinct constants with the default.

    Raises:
        StudyError: no schedule is complete.
    """
    schedules = _distinct(study.complete(constant=False), top)
    if not schedules:
        raise StudyError(
            f"study {study.name} has no complete trial with a schedule yet: "
            "`schedsearch start` with more --trials goes on"
        )
    constants = _distinct(study.complete(constant=True), CONSTANTS)
    default = study.space.baseline()
    if default not in [constant.plan for constant in constants]:
        at_default = (t for t in study.trials() if "plan" in t.user_attrs)
        number = next((t.number for t in at_default if plan_of(t) == default), None)
        constants.append(Candidate(number, default))
    return schedules, constants


def _distinct(ranked: Iterable[FrozenTrial], count: int) -> list[Candidate]:
    found: dict[Plan, Candidate] = {}
    for trial in ranked:
        if len(found) == count:
            break
        plan = plan_of(trial)
        found.setdefault(plan, Candidate(trial.number, plan))
    return list(found.values())


# --- what the runs say ---------------------------------------------------------------------------


def common_metric(outcomes: Sequence[Outcome], metric: str) -> tuple[str, list[float]]:
    """Return the metric that all runs have, and its values: the test metric, else validation's."""
    tests = [outcome.test for outcome in outcomes]
    if any(test is None for test in tests):
        return metric, [outcome.validation for outcome in outcomes]
    return metric_on_test(metric), [test for test in tests if test is not None]


def contend(
    chosen: Sequence[Candidate], runs: Sequence[Sequence[float]], objective: Objective
) -> list[Contender]:
    """Give each candidate its runs; NaN, a diverged run, becomes the worst value of all others.

    Raises:
        SchedSearchError: every run diverged.
    """
    known = [value for values in runs for value in values if not math.isnan(value)]
    if not known:
        raise SchedSearchError("every run diverged: there is nothing to compare")
    worst = max(known, key=objective.lower_is_better)
    return [
        Contender(
            number=candidate.number,
            plan=candidate.plan,
            values=tuple(worst if math.isnan(value) else value for value in values),
            diverged=sum(map(math.isnan, values)),
        )
        for candidate, values in zip(chosen, runs, strict=True)
    ]


def document(
    schedules: Sequence[Contender],
    constants: Sequence[Contender],
    objective: Objective,
    metric: str,
    seeds: range,
) -> dict[str, Any]:
    """Judge, and return the result as plain data that survives JSON.

    Differences are those of the metric as it is, a schedule's minus a constant's; `interval` is at
    the plan's own Holm level. `baseline` is the constant with the best mean.
    """
    baseline = min(constants, key=lambda constant: objective.lower_is_better(constant.mean))
    pairs = [[_pair(plan, constant, objective) for constant in constants] for plan in schedules]
    judgements = [
        _held_back(judgement, plan, constants)
        for judgement, plan in zip(judge(pairs), schedules, strict=True)
    ]
    at = constants.index(baseline)
    return {
        "metric": metric,
        "direction": objective.direction,
        "test": metric == metric_on_test(objective.metric),
        "seeds": [seeds.start, seeds.stop],
        "baseline": _entry(baseline),
        "constants": [_entry(constant) for constant in constants],
        "plans": [
            {
                **_entry(plan),
                **_difference(of_plan[at], judgement.level, objective),
                "p": judgement.p,
                "level": judgement.level,
                "verdict": str(judgement.verdict),
                "seeds_to_show": seeds_to_show(_hardest(of_plan), judgement.level)
                if judgement.verdict is Verdict.NO_DIFFERENCE
                else None,
                "against": [
                    {"number": constant.number, **_difference(pair, judgement.level, objective)}
                    for constant, pair in zip(constants, of_plan, strict=True)
                ],
            }
            for plan, of_plan, judgement in zip(schedules, pairs, judgements, strict=True)
        ],
    }


def _pair(plan: Contender, constant: Contender, objective: Objective) -> Paired:
    lower = objective.lower_is_better
    return Paired.of([lower(v) for v in plan.values], [lower(v) for v in constant.values])


def _hardest(pairs: Sequence[Paired]) -> Paired:
    """Return the comparison that most stands in the way of "better"."""
    return max(pairs, key=lambda pair: pair.p if pair.mean < 0 else 1.0)


def _held_back(judgement: Judgement, plan: Contender, constants: Sequence[Contender]) -> Judgement:
    """A diverged run was given a value too good for it: no plan is called better by that."""
    if judgement.verdict is not Verdict.BETTER:
        return judgement
    if plan.diverged <= min(constant.diverged for constant in constants):
        return judgement
    return Judgement(Verdict.NO_DIFFERENCE, judgement.p, judgement.level)


def _entry(contender: Contender) -> dict[str, Any]:
    return {
        "number": contender.number,
        "plan": contender.plan.to_tables(),
        "mean": contender.mean,
        "diverged": contender.diverged,
    }


def _difference(pair: Paired, level: float, objective: Objective) -> dict[str, Any]:
    return {
        "difference": objective.lower_is_better(pair.mean),
        "interval": sorted(map(objective.lower_is_better, pair.interval(level))),
        "wins": pair.wins,
        "losses": pair.losses,
    }
