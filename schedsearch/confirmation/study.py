"""The study STUDY:confirm: one trial for each plan and fresh seed, which any worker trains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from schedsearch.confirmation.candidates import Candidate
from schedsearch.confirmation.live_calls import LiveCall
from schedsearch.confirmation.result_schema import find_mistake
from schedsearch.errors import DamagedStudyError
from schedsearch.metric_names import metric_on_test
from schedsearch.plan import Plan
from schedsearch.space import Space
from schedsearch.storage import (
    Database,
    StudyAttributes,
    StudyHandle,
    TrialQueue,
    confirmation_name,
    confirmed_study,
    create_study,
    load_all_studies,
    plan_of,
    require_attribute,
)
from schedsearch.storage.attributes import (
    CONFIRMATION_RESULT,
    CONFIRMED_TRIAL,
    CONFIRMS,
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


def confirmation_result(study: StudyHandle) -> dict[str, Any] | None:
    """Return the result of a study's last confirmation, as the study keeps it.

    Raises:
        DamagedStudyError: the stored result is not valid.
    """
    return _result_in(study.attributes(CONFIRMATION_RESULT))


def _result_in(attributes: StudyAttributes) -> dict[str, Any] | None:
    found: dict[str, Any] | None = attributes.get(CONFIRMATION_RESULT)
    if CONFIRMATION_RESULT in attributes and (mistake := find_mistake(found)) is not None:
        rule = f"the result of a confirmation: {mistake}"
        raise DamagedStudyError(attributes.name, None, CONFIRMATION_RESULT, found, rule)
    return found


def open_confirmation(study: StudyHandle, epoch_timeout: float | None = None) -> StudyHandle:
    """Open the study that confirms a study; create it if it is missing.

    A confirmation that version 0.1 made, which only recorded runs, becomes a study here.

    Args:
        study: the study.
        epoch_timeout: seconds that an epoch may take; None: as many as in the study.

    Raises:
        StudyError: the study of that name confirms another study, or other settings of this one.
    """
    search: dict[str, Any] = {
        "trials": 1,
        "seed": study.space.search.seed,
        "epoch_timeout": study.epoch_timeout() if epoch_timeout is None else epoch_timeout,
        "pruner": {"name": "none"},
    }
    document = study.space.to_document() | {"search": search}
    space = Space.from_document(document, f"study {confirmation_name(study.name)}")
    record = replace(study.record, space=space, trials=0, confirms=study.name)
    confirmation = create_study(study.database, record)
    confirmation.name_metric(metric_on_test(space.objective.metric))
    return confirmation


def queue_missing(
    confirmation: StudyHandle, wanted: Sequence[tuple[Candidate, int]], call: LiveCall
) -> int:
    """Queue the runs that are neither recorded, nor running, nor queued.

    Runs that an earlier call queued and this one does not want leave the queue, unless another call
    is alive or a worker trains some run just now: then another call may want them.

    Args:
        confirmation: the study of the runs.
        wanted: the runs that this call compares.
        call: this call, which counts as alive from now on.

    Returns:
        How many runs stay in the queue that this call does not want.
    """
    keys = {(candidate.plan, seed) for candidate, seed in wanted}
    with confirmation.database.creation_lock():
        call.renew()
        found = {
            _key(confirmation, trial): trial
            for trial in confirmation.trials()
            if trial.state is not TrialState.FAIL
        }
        unwanted = [trial._trial_id for trial in _unwanted(found, keys)]
        others = len(unwanted) if call.has_others() else confirmation.queue.withdraw(unwanted)
        confirmation.queue.enqueue(
            [
                _queued(confirmation, candidate, seed)
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


def _queued(confirmation: StudyHandle, candidate: Candidate, seed: int) -> FrozenTrial:
    tables = candidate.plan.to_tables()
    attributes = {
        PLAN: tables,
        SEED: seed,
        CONSTANT: confirmation.space.is_constant_plan(tables),
        CONFIRMED_TRIAL: candidate.number,
    }
    return create_trial(
        state=TrialState.WAITING,
        params={"seed": seed},
        distributions={"seed": _ANY_SEED},
        user_attrs={key: value for key, value in attributes.items() if value is not None},
    )


def _key(confirmation: StudyHandle, trial: FrozenTrial) -> RunKey:
    require_attribute(confirmation.name, trial, PLAN)
    seed = trial.params.get("seed")
    if type(seed) is not int:
        rule = "a whole number"
        raise DamagedStudyError(confirmation.name, trial.number, "seed", seed, rule)
    return plan_of(trial), seed


def recorded_runs(confirmation: StudyHandle) -> dict[RunKey, RunResult]:
    """Return the results of the runs that have ended, by plan and seed."""
    results: dict[RunKey, RunResult] = {}
    for trial in confirmation.trials():
        if trial.state in _RECORDED:
            # In version 0.1 two calls at a time could train one run twice: the first one counts.
            results.setdefault(_key(confirmation, trial), _result(confirmation, trial))
    return results


def _result(confirmation: StudyHandle, trial: FrozenTrial) -> RunResult:
    if trial.state is TrialState.PRUNED:
        return RunResult(math.nan, math.nan)
    validation, test = (
        require_attribute(confirmation.name, trial, key) for key in (VALIDATION, TEST)
    )
    return RunResult(validation, test, stopped=STOPPED_AFTER in trial.user_attrs)


def failed_runs(confirmation: StudyHandle) -> dict[RunKey, str]:
    """Return why runs failed, by plan and seed."""
    return {
        _key(confirmation, trial): failure_reason(trial)
        for trial in confirmation.trials()
        if trial.state is TrialState.FAIL
    }


def count_progress(confirmation: StudyHandle, wanted: Set[RunKey]) -> tuple[int, float]:
    """Return how many runs have ended, and how many runs' worth of epochs is trained."""
    horizon = confirmation.space.horizon
    recorded: set[RunKey] = set()
    shares: dict[RunKey, float] = {}
    for trial in confirmation.trials():
        if trial.state is not TrialState.FAIL and (key := _key(confirmation, trial)) in wanted:
            if trial.state in _RECORDED:
                recorded.add(key)
            share = 1.0 if key in recorded else len(trial.intermediate_values) / horizon
            shares[key] = max(share, shares.get(key, 0.0))
    return len(recorded), sum(shares.values())


def keep_result(study: StudyHandle, confirmation: StudyHandle, result: dict[str, Any]) -> None:
    """Keep a result with the study that was confirmed, and with its confirmation.

    The plans stay in the trials alone, since MySQL limits an attribute to 65,535 bytes.
    """
    without = {key: _without_plans(part) for key, part in result.items()}
    for handle in (confirmation, study):
        handle.database.optuna.set_study_user_attr(handle.study_id, CONFIRMATION_RESULT, without)


def _without_plans(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_plans(item) for item in part]
    return {k: v for k, v in part.items() if k != "plan"} if isinstance(part, dict) else part


@dataclass(frozen=True)
class ConfirmationSummary:
    """A confirmation as `list` shows it."""

    name: str
    parent: str
    runs: int
    total: int
    result: dict[str, Any] | None


def confirmations(
    database: Database,
) -> tuple[list[ConfirmationSummary], list[DamagedStudyError]]:
    """Return the confirmations in a database, by name.

    Returns:
        The confirmations, and an error for each one that is not valid.
    """
    found, damaged = [], []
    for study in database.read(load_all_studies):
        if CONFIRMS in study:
            try:
                found.append(_summary(database, study))
            except DamagedStudyError as error:
                damaged.append(error)
    return found, damaged


def _summary(database: Database, study: StudyAttributes) -> ConfirmationSummary:
    parent, counts = confirmed_study(study), TrialQueue(database, study.study_id).counts()
    assert parent is not None
    return ConfirmationSummary(
        name=study.name,
        parent=parent,
        runs=counts.complete + counts.pruned,
        total=counts.trials,
        result=_result_in(study),
    )
