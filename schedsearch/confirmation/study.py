"""A study of fresh runs: one trial for each plan and fresh seed, which any worker trains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from schedsearch.confirmation.candidates import Candidate
from schedsearch.confirmation.live_calls import LiveCall
from schedsearch.errors import DamagedStudyError
from schedsearch.metric_names import metric_on_test
from schedsearch.plan import Plan
from schedsearch.space import Space
from schedsearch.storage import (
    FollowUp,
    Purpose,
    StudyHandle,
    create_study,
    plan_of,
    require_attribute,
)
from schedsearch.storage.attributes import (
    CONFIRMED_TRIAL,
    CONSTANT,
    PLAN,
    SEED,
    STOPPED_AFTER,
    TEST,
    VALIDATION,
    failure_reason,
)

_ANY_SEED = IntDistribution(0, 2**32)
_RECORDED = (TrialState.COMPLETE, TrialState.PRUNED)

#: The key of a run: its plan and its seed.
RunKey = tuple[Plan, int]


@dataclass(frozen=True)
class RunResult:
    """The metrics of one run; both are NaN if it diverged.

    Attributes:
        validation: the objective's value.
        test: the objective's metric on the test split; None if the task has none.
        stopped: whether the run stopped before the horizon.
    """

    validation: float
    test: float | None
    stopped: bool = False


def open_follow_up(
    study: StudyHandle, purpose: Purpose, epoch_timeout: float | None = None
) -> StudyHandle:
    """Open the study that trains plans of a study on fresh seeds; create it if it is missing.

    A confirmation that version 0.1 made, which only recorded runs, becomes a study here.

    Args:
        study: the study.
        purpose: of the fresh runs.
        epoch_timeout: seconds that an epoch may take; None: as many as in the study.

    Raises:
        StudyError: the study of that name follows another study, or other settings of this one.
    """
    search: dict[str, Any] = {
        "trials": 1,
        "seed": study.space.search.seed,
        "epoch_timeout": study.epoch_timeout() if epoch_timeout is None else epoch_timeout,
        "pruner": {"name": "none"},
    }
    follows = FollowUp(study.name, purpose)
    document = study.space.to_document() | {"search": search}
    space = Space.from_document(document, f"study {follows.name}")
    record = replace(study.record, space=space, trials=0, follows=follows)
    fresh = create_study(study.database, record)
    fresh.name_metric(metric_on_test(space.objective.metric))
    return fresh


def queue_missing(
    study: StudyHandle, wanted: Sequence[tuple[Candidate, int]], call: LiveCall
) -> int:
    """Queue the runs that are neither recorded, nor running, nor queued.

    Runs that an earlier call queued and this one does not want leave the queue, unless another call
    is alive or a worker trains some run just now: then another call may want them.

    Args:
        study: the study of the runs.
        wanted: the runs that this call compares.
        call: this call, which counts as alive from now on.

    Returns:
        How many runs stay in the queue that this call does not want.
    """
    keys = {(candidate.plan, seed) for candidate, seed in wanted}
    with study.database.creation_lock():
        call.renew()
        found = {
            _key(study, trial): trial
            for trial in study.trials()
            if trial.state is not TrialState.FAIL
        }
        unwanted = [trial._trial_id for trial in _unwanted(found, keys)]
        others = len(unwanted) if call.has_others() else study.queue.withdraw(unwanted)
        study.queue.enqueue(
            [
                _queued(study, candidate, seed)
                for candidate, seed in wanted
                if (candidate.plan, seed) not in found
            ]
        )
        return others


def _unwanted(found: Mapping[RunKey, FrozenTrial], wanted: Set[RunKey]) -> list[FrozenTrial]:
    """Return the queued runs that are not wanted."""
    return [
        trial
        for key, trial in found.items()
        if trial.state is TrialState.WAITING and key not in wanted
    ]


def _queued(study: StudyHandle, candidate: Candidate, seed: int) -> FrozenTrial:
    tables = candidate.plan.to_tables()
    attributes = {
        PLAN: tables,
        SEED: seed,
        CONSTANT: study.space.is_constant_plan(tables),
        CONFIRMED_TRIAL: candidate.number,
    }
    return create_trial(
        state=TrialState.WAITING,
        params={"seed": seed},
        distributions={"seed": _ANY_SEED},
        user_attrs={key: value for key, value in attributes.items() if value is not None},
    )


def _key(study: StudyHandle, trial: FrozenTrial) -> RunKey:
    require_attribute(study.name, trial, PLAN)
    seed = trial.params.get("seed")
    if type(seed) is not int:
        rule = "a whole number"
        raise DamagedStudyError(study.name, trial.number, "seed", seed, rule)
    return plan_of(trial), seed


def recorded_runs(study: StudyHandle) -> dict[RunKey, RunResult]:
    """Return the results of the runs that have ended, by plan and seed."""
    results: dict[RunKey, RunResult] = {}
    for trial in study.trials():
        if trial.state in _RECORDED:
            # In version 0.1 two calls at a time could train one run twice: the first one counts.
            results.setdefault(_key(study, trial), _result(study, trial))
    return results


def _result(study: StudyHandle, trial: FrozenTrial) -> RunResult:
    if trial.state is TrialState.PRUNED:
        return RunResult(math.nan, math.nan)
    validation, test = (require_attribute(study.name, trial, key) for key in (VALIDATION, TEST))
    return RunResult(validation, test, stopped=STOPPED_AFTER in trial.user_attrs)


def failed_runs(study: StudyHandle) -> dict[RunKey, str]:
    """Return why runs failed, by plan and seed."""
    return {
        _key(study, trial): failure_reason(trial)
        for trial in study.trials()
        if trial.state is TrialState.FAIL
    }


def count_progress(study: StudyHandle, wanted: Set[RunKey]) -> tuple[int, float]:
    """Return how many runs have ended, and how many runs' worth of epochs is trained."""
    horizon = study.space.horizon
    recorded: set[RunKey] = set()
    shares: dict[RunKey, float] = {}
    for trial in study.trials():
        if trial.state is not TrialState.FAIL and (key := _key(study, trial)) in wanted:
            if trial.state in _RECORDED:
                recorded.add(key)
            share = 1.0 if key in recorded else len(trial.intermediate_values) / horizon
            shares[key] = max(share, shares.get(key, 0.0))
    return len(recorded), sum(shares.values())
