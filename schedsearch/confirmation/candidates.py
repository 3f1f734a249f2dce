"""Who takes part: the best distinct schedules and the user's own, and the constants to beat."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from schedsearch.errors import StudyError
from schedsearch.plan import Plan
from schedsearch.storage import OWN, StudyHandle, plan_of

#: How many constants, beside the default, every schedule has to beat.
CONSTANTS = 3
#: With fewer constants tried for each hyperparameter that is searched, the best is no fair rival.
_FEWEST_TRIED = 10


@dataclass(frozen=True)
class Candidate:
    """A plan to confirm, and the trial that carries it; None for a default that has no trial."""

    number: int | None
    plan: Plan


def candidates(study: StudyHandle, top: int) -> tuple[list[Candidate], list[Candidate]]:
    """Return the best distinct schedules, and the best distinct constants with the default.

    The user's own schedules and constants are among them, however good they are.

    Raises:
        StudyError: no schedule is complete.
    """
    schedules = _chosen(study.complete(constant=False), top)
    if not schedules:
        raise StudyError(
            f"study {study.name} has no complete trial with a schedule yet: "
            "`schedsearch start` with more --trials goes on"
        )
    constants = _chosen(study.complete(constant=True), CONSTANTS)
    default = study.space.baseline()
    if default not in [constant.plan for constant in constants]:
        at_default = (t for t in study.trials() if "plan" in t.user_attrs)
        number = next((t.number for t in at_default if plan_of(t) == default), None)
        constants.append(Candidate(number, default))
    return schedules, constants


def _chosen(ranked: Iterable[FrozenTrial], count: int) -> list[Candidate]:
    """Return the first distinct plans, and after them the user's own."""
    found: dict[Plan, Candidate] = {}
    for trial in ranked:
        if len(found) < count or OWN in trial.user_attrs:
            plan = plan_of(trial)
            found.setdefault(plan, Candidate(trial.number, plan))
    return list(found.values())


def few_constants(study: StudyHandle) -> list[str]:
    """Return a line if so few constants were tried that a schedule may win for want of a better."""
    tried = len({plan_of(trial) for trial in study.complete(constant=True)})
    searched = len(study.space.searched())
    if tried >= _FEWEST_TRIED * searched:
        return []
    return [
        f"{tried} constants were tried, for {searched} hyperparameter{'s'[: searched > 1]} "
        f"searched: a schedule may win because its other values are tuned better; try "
        f"{_FEWEST_TRIED} for each by more --trials, or race a constant of your own by --also"
    ]
