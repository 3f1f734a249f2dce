"""The plans of a confirmation: the best schedules, the user's plans, and the constants to beat."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schedsearch.errors import StudyError
from schedsearch.plan import Plan
from schedsearch.printable import count_of
from schedsearch.race.planned import trials_for_constants
from schedsearch.space import Space
from schedsearch.space.constant_coverage import enough_constants
from schedsearch.storage import PlanMean, StudyHandle, plan_of
from schedsearch.storage.attributes import PLAN, USER_PLAN

#: How many constants, beside the default, every schedule has to beat.
CONSTANTS = 3


@dataclass(frozen=True)
class Candidate:
    """A plan to confirm, and the number of its trial; None for a default without a trial."""

    number: int | None
    plan: Plan


def candidates(study: StudyHandle, top: int) -> tuple[list[Candidate], list[Candidate]]:
    """Return the best distinct schedules, and the best distinct constants with the default.

    A schedule with the same values in each epoch as a better one, or as a constant, is left out: at
    its bounds it may be one of many that stay there. Plans that the user added with `start --also`
    are always among the candidates.

    Raises:
        StudyError: no schedule is complete.
    """
    ranked, constants = study.ranked_plans(constant=False), study.ranked_plans(constant=True)
    if not ranked and not study.complete_trials():
        raise study.no_complete_trial()
    if not ranked:
        raise StudyError(
            f"study {study.name} has no complete trial with a schedule yet: "
            "raise --trials of `schedsearch start` to continue"
        )
    distinct = _distinct(study.space, ranked, constants, top)
    schedules = [Candidate(plan.number, plan_of(plan.trial)) for plan in distinct]
    best_constants = [
        Candidate(plan.number, plan_of(plan.trial))
        for place, plan in enumerate(constants)
        if place < CONSTANTS or _is_of_user(plan)
    ]
    default = study.space.baseline()
    if default not in [constant.plan for constant in best_constants]:
        at_default = (t for t in study.trials() if PLAN in t.user_attrs)
        number = next((t.number for t in at_default if plan_of(t) == default), None)
        best_constants.append(Candidate(number, default))
    return schedules, best_constants


def _distinct(
    space: Space, ranked: Sequence[PlanMean], constants: Iterable[PlanMean], top: int
) -> Sequence[PlanMean]:
    """Return the first schedules that have values of their own, and those that the user added.

    If none has, the first schedule.
    """
    # scipy takes a while to load, and most commands do not need it.
    from schedsearch.forecast import TrainedPlans

    def values_of(plan: Plan) -> bytes | None:
        return trained.fixed_values(plan.resolve(space.horizon, space.search.seed))

    trained = TrainedPlans(space)
    seen = {values_of(plan_of(constant.trial)) for constant in constants}
    seen.add(values_of(space.baseline()))
    found: list[PlanMean] = []
    for plan in ranked:
        if len(found) >= top and not _is_of_user(plan):
            continue
        values = values_of(plan_of(plan.trial))
        if values is None or values not in seen or _is_of_user(plan):
            found.append(plan)
        seen.add(values)
    return found or ranked[:1]


def _is_of_user(plan: PlanMean) -> bool:
    return any(USER_PLAN in trial.user_attrs for trial in plan.trials)


def few_constants_warning(study: StudyHandle) -> list[str]:
    """Return a warning if too few constants were tried for a strong baseline."""
    tried = len(study.ranked_plans(constant=True))
    searched = len(study.space.choices)
    enough = enough_constants(study.space)
    if tried >= enough:
        return []
    # If constants stay the same share of the trials, and at least as many as `check` says.
    total = math.ceil(study.queue.counts().finished * enough / max(1, tried))
    total = max(total, trials_for_constants(study.space, enough) or 0)
    return [
        f"{count_of(tried, 'constant')} {'was' if tried == 1 else 'were'} tried, for "
        f"{_searched_words(study.space, searched)}: {enough - tried} more "
        f"{'is' if enough - tried == 1 else 'are'} needed, since a schedule may win because its "
        f"other values are tuned better; `schedsearch start FILE --trials {total}` tries about so "
        "many, and --also adds a constant"
    ]


def _searched_words(space: Space, searched: int) -> str:
    if space.searched_arguments():
        return f"{searched} searched hyperparameters and arguments"
    return count_of(searched, "searched hyperparameter")
