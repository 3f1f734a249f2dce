"""The status of a study: its trials, its best schedule, and its best constant."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import compress
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

from schedsearch.confirmation.stored_result import confirmation_result
from schedsearch.confirmation.verdicts import not_confirmed
from schedsearch.explanation.stored_result import explanation_result
from schedsearch.printable import printable
from schedsearch.pruners import Audit, summarize_audit
from schedsearch.report.confirmation import verdict_line
from schedsearch.report.explanation import explanation_line
from schedsearch.report.text import describe_plan
from schedsearch.report.training_time import seconds_of_training
from schedsearch.report.without_value import without_value
from schedsearch.report.work_left import epochs_left
from schedsearch.storage import (
    Counts,
    FollowUp,
    PlanMean,
    Purpose,
    StudyHandle,
    find_study,
    is_race_run,
)
from schedsearch.storage.attributes import (
    CLAMPED,
    DIVERGED,
    EPOCHS_TRAINED,
    PLAN,
    STOPPED_AFTER,
    USER_PLAN,
    failure_reason,
    is_superseded,
    requested_epochs,
)
from schedsearch.storage.plan_means import plan_means, rank_means
from schedsearch.storage.rows import paused_garbage_collection
from schedsearch.storage.studies import TrialOutline
from schedsearch.storage.trial_checks import check_plan


@dataclass(frozen=True, repr=False)
class Best:
    """The best plan of some complete trials.

    Attributes:
        number: of the first complete trial with this plan.
        value: the mean of the objective over all runs of the plan.
        plan: its tables, as in a config.
        among: the number of plans that were compared.
        stopped_after: the number of epochs of a trial that stopped before the horizon.
        stopped: the number of plans that were compared and that stopped before the horizon.
        seeds: the number of its runs, each with another seed.
        error: the standard error of the mean; None if no plan of the study has several runs.
    """

    number: int
    value: float
    plan: dict[str, Any]
    among: int
    stopped_after: int | None = None
    stopped: int = 0
    seeds: int = 1
    error: float | None = None

    def __repr__(self) -> str:
        numbers = f"number={self.number}, value={self.value:.5g}"
        if self.error is not None:
            numbers += f", error={self.error:.2g}"
        plan = "; ".join(describe_plan(self.plan))
        return printable(f"Best({numbers}, seeds={self.seeds}, among={self.among}, {plan})")


@dataclass(frozen=True)
class UserPlanTrial:
    """A trial that trains a plan of the user, and the name of the file with that plan."""

    file: str
    number: int
    state: str
    #: None unless it is complete.
    value: float | None
    plan: dict[str, Any]
    #: The number of its epochs, if it stopped before the horizon.
    stopped_after: int | None = None


@dataclass(frozen=True)
class Status:
    """The status of a study at one moment."""

    study: str
    #: running: a trial is in training. done: all trials have ended. stopped: neither.
    state: Literal["running", "done", "stopped"]
    metric: str
    direction: str
    total: int
    counts: Counts
    #: The number of epochs of every complete trial that did not stop before.
    horizon: int
    best: Best | None
    best_schedule: Best | None
    best_constant: Best | None
    #: The trials of `start --also`, by number.
    user_plans: tuple[UserPlanTrial, ...]
    #: Wall-clock seconds during which at least one trial was in training.
    seconds: float
    #: How many of the pruned trials diverged.
    diverged: int = 0
    #: In how many epochs of all trials a hyperparameter was limited by its bounds.
    clamped: dict[str, int] = field(default_factory=dict)
    #: The epochs that all trials reported, without those of attempts that were queued again.
    epochs: int = 0
    #: The epochs of all runs of these, and how many were trained, not cached, in all attempts.
    epochs_requested: int = 0
    epochs_trained: int = 0
    #: The result of the last `confirm` in one line; None if there is none.
    confirmation: str | None = None
    #: The audit of the pruner; None if no audited trial is complete.
    audit: Audit | None = None
    #: How many trials train further seeds of the best plans, and how many of these have ended.
    race_runs: int = 0
    race_ended: int = 0
    #: How many complete trials train further seeds of plans, and how many repeat another's plan.
    race_complete: int = 0
    repeats: int = 0
    #: The number of seeds that each trial trains; a trial of a race trains one.
    seeds: int = 1
    #: The result of the last `explain` in one line; None if there is none.
    explanation: str | None = None
    #: The study whose plans this one trains, and why; None for a search.
    follows: FollowUp | None = None
    #: How many epochs the trials will still train, estimated from those that ended.
    epochs_left: float = 0.0
    #: Why the study has ended without a complete trial; None if it has one, or has not ended.
    without_value: str | None = None
    #: The number of the last failed trial and its exception in one line; None if none failed.
    last_failure: str | None = None

    @property
    def epochs_per_second(self) -> float:
        """Trained epochs of all trials, per second of wall-clock time."""
        return self.epochs / self.seconds if self.seconds else 0.0

    def _followed(self, purpose: Purpose) -> str | None:
        follows = self.follows
        return follows.study if follows is not None and follows.purpose is purpose else None

    def to_json(self) -> dict[str, Any]:
        """Return the document that `status --json` prints."""
        counts = asdict(self.counts)
        counts.pop("epochs")
        return {
            "study": self.study,
            "state": self.state,
            "metric": self.metric,
            "direction": self.direction,
            "trials": {"total": self.total, **counts, "diverged": self.diverged},
            "horizon": self.horizon,
            "best": None if self.best is None else asdict(self.best),
            "best_schedule": None if self.best_schedule is None else asdict(self.best_schedule),
            "best_constant": None if self.best_constant is None else asdict(self.best_constant),
            "own": [asdict(trial) for trial in self.user_plans],
            "race": {"runs": self.race_runs, "ended": self.race_ended},
            "audit": None if self.audit is None else self.audit.to_json(),
            "trial_epochs": self.epochs,
            "epochs_asked": self.epochs_requested,
            "epochs_trained": self.epochs_trained,
            "seconds": round(self.seconds, 3),
            "trial_epochs_per_second": round(self.epochs_per_second, 3),
            "clamped_epochs": self.clamped,
            "confirmation": self.confirmation,
            "explanation": self.explanation,
            **{purpose.attribute: self._followed(purpose) for purpose in Purpose},
            "without_value": self.without_value,
            "last_failure": self.last_failure,
        }


def read_status(study: StudyHandle) -> Status:
    """Read the status of a study."""
    with paused_garbage_collection():
        return _read_status(study)


def _read_status(study: StudyHandle) -> Status:
    # One read for all trials: while workers train, two reads would differ.
    outlines, total = study.outlines(), study.total()
    rows = [outline.trial for outline in outlines]
    current = [not is_superseded(row) for row in rows]
    trials = list(compress(rows, current))
    counts = Counts.from_rows(rows, sum(outline.epochs for outline in outlines))
    race = [trial for trial in trials if is_race_run(trial)]
    seeds = study.space.search.seeds
    requested = [requested_epochs(outline.trial, seeds, outline.epochs) for outline in outlines]
    result, explanation = confirmation_result(study), explanation_result(study)
    objective = study.space.objective
    if counts.running:
        state: Literal["running", "done", "stopped"] = "running"
    else:
        state = "stopped" if counts.waiting or study.queue.remaining() else "done"
    # One seed of a plan is no best trial.
    compared = trials if study.follows is None else []
    means = plan_means(study.space, compared)
    best, schedule, constant = (
        _best(study, rank_means(study.space, means, constant=constant))
        for constant in (None, False, True)
    )
    clamped: Counter[str] = Counter()
    for trial in trials:
        clamped.update(trial.user_attrs.get(CLAMPED, {}))
    return Status(
        study=study.name,
        state=state,
        metric=objective.metric,
        direction=objective.direction,
        total=total,
        counts=counts,
        horizon=study.space.horizon,
        best=best,
        best_schedule=schedule,
        best_constant=constant,
        user_plans=tuple(
            _user_plan_trial(study, trial) for trial in trials if USER_PLAN in trial.user_attrs
        ),
        seconds=seconds_of_training(study, rows),
        diverged=sum(DIVERGED in trial.user_attrs for trial in trials),
        clamped=dict(clamped),
        epochs=sum(compress((outline.epochs for outline in outlines), current)),
        epochs_requested=sum(compress(requested, current)),
        epochs_trained=sum(
            row.user_attrs.get(EPOCHS_TRAINED, epochs)
            for row, epochs in zip(rows, requested, strict=True)
        ),
        confirmation=None if result is None else _confirmation_line(study, result),
        race_runs=len(race),
        race_ended=sum(trial.state.is_finished() for trial in race),
        race_complete=sum(trial.state is TrialState.COMPLETE for trial in race),
        repeats=sum(map(_repeats, means)),
        seeds=seeds,
        audit=summarize_audit(trials, objective),
        explanation=None if explanation is None else explanation_line(explanation),
        follows=study.follows,
        epochs_left=_epochs_left(study, outlines, total),
        without_value=(without_value(study) if state == "done" and not counts.complete else None),
        last_failure=_last_failure(trials),
    )


def _epochs_left(study: StudyHandle, outlines: Iterable[TrialOutline], total: int) -> float:
    """Return how many epochs the trials will still train, within the budget of epochs."""
    current = [outline for outline in outlines if not is_superseded(outline.trial)]
    ended = [outline.epochs for outline in current if outline.trial.state.is_finished()]
    running = [o.epochs for o in current if o.trial.state is TrialState.RUNNING]
    space = study.space
    left = epochs_left(ended, running, total, space.horizon, space.search.expected_share)
    budget = study.queue.budget().epochs
    return left if budget is None else min(left, max(0, budget - sum(ended) - sum(running)))


def _last_failure(trials: Iterable[FrozenTrial]) -> str | None:
    failed = [trial for trial in trials if trial.state is TrialState.FAIL]
    if not failed:
        return None
    last = max(failed, key=lambda trial: (trial.datetime_complete or datetime.min, trial.number))
    return f"the last of {len(failed)}: trial {last.number} with {failure_reason(last)}"


def _repeats(plan: PlanMean) -> int:
    """Return how many trials, other than runs of a race, tried a plan after the first one."""
    return max(0, sum(not is_race_run(trial) for trial in plan.trials) - 1)


def _best(study: StudyHandle, ranked: Sequence[PlanMean]) -> Best | None:
    if not ranked:
        return None
    plan = ranked[0]
    check_plan(study.name, plan.trial)
    error = plan.error if plan.error is not None and math.isfinite(plan.error) else None
    return Best(
        number=plan.number,
        value=plan.mean,
        plan=plan.trial.user_attrs[PLAN],
        among=len(ranked),
        stopped_after=plan.stopped_after,
        seeds=plan.seeds,
        error=error,
        stopped=sum(other.stopped_after is not None for other in ranked),
    )


def _confirmation_line(study: StudyHandle, result: Mapping[str, Any]) -> str:
    """Return a confirmation's result, and a hint if the study has found better trials since."""
    follows = study.follows
    searched = study if follows is None else find_study(study.database, follows.study)
    if searched is None:  # deleted, but for its confirmation
        return verdict_line(result)
    best = [searched.ranked_plans(constant=constant)[:1] for constant in (False, True)]
    since = not_confirmed(result, [plan.number for ranked in best for plan in ranked])
    if not since:
        return verdict_line(result)
    hint = f"trial {since[-1]} was not part of it: run `schedsearch confirm {searched.name}` again"
    return f"{verdict_line(result)}; {hint}"


def _user_plan_trial(study: StudyHandle, trial: FrozenTrial) -> UserPlanTrial:
    check_plan(study.name, trial)
    value = trial.value if trial.state is TrialState.COMPLETE else None
    attributes = trial.user_attrs
    state = trial.state.name.lower()
    return UserPlanTrial(
        file=attributes[USER_PLAN],
        number=trial.number,
        state=state,
        value=value,
        plan=attributes[PLAN],
        stopped_after=attributes.get(STOPPED_AFTER),
    )
