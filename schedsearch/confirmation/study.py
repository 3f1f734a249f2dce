"""The study STUDY:confirm: one trial for each plan and fresh seed, which any worker trains."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from schedsearch.confirmation.candidates import Candidate
from schedsearch.errors import StudyError
from schedsearch.plan import Plan
from schedsearch.space import Space
from schedsearch.storage import (
    CONFIRMED_TRIAL,
    CONFIRMS,
    CONSTANT,
    SEED,
    StudyHandle,
    confirmation_name,
    create_study,
    plan_of,
)
from schedsearch.training import metric_on_test
from schedsearch.worker.failures import failure_reason

#: The attribute of a study that keeps the result of its last confirmation.
ATTRIBUTE = "confirmation"
#: What the numbers of a run depend on, beside its plan and its seed.
_CONDITIONS = "conditions"
_ANY_SEED = IntDistribution(0, 2**32)
_RECORDED = (TrialState.COMPLETE, TrialState.PRUNED)

#: What names a run: its plan and its seed.
RunKey = tuple[Plan, int]


@dataclass(frozen=True)
class RunResult:
    """The metrics of one run; both are NaN if it diverged.

    Attributes:
        validation: the objective's value.
        test: the objective's metric on the test split; None if the task has none.
    """

    validation: float
    test: float | None


def confirmation_result(study: StudyHandle) -> dict[str, Any] | None:
    """Return the result of a study's last confirmation, as the study keeps it."""
    attributes = study.database.optuna.get_study_user_attrs(study.study_id)
    found: dict[str, Any] | None = attributes.get(ATTRIBUTE)
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
    storage, name, conditions = (
        study.database.optuna,
        confirmation_name(study.name),
        _conditions(study),
    )
    for found in storage.get_all_studies():
        if found.study_name == name:
            attributes = found.user_attrs
            unnamed = None if storage.get_n_trials(found._study_id) else study.name
            is_foreign = attributes.get(CONFIRMS, unnamed) != study.name
            if is_foreign or attributes.get(_CONDITIONS, conditions) != conditions:
                raise StudyError(
                    f"study `{name}` has runs of another study `{study.name}`, or of other "
                    f"settings: delete it with `schedsearch delete {name}`"
                )
    search: dict[str, Any] = {
        "trials": 1,
        "seed": study.space.search.seed,
        "epoch_timeout": study.epoch_timeout() if epoch_timeout is None else epoch_timeout,
        "pruner": {"name": "none"},
    }
    document = study.space.to_document() | {"search": search}
    space = Space.from_document(document, f"study {name}")
    record = replace(study.record, space=space, trials=0, confirms=study.name)
    confirmation = create_study(study.database, record)
    confirmation.name_metric(metric_on_test(space.objective.metric))
    storage.set_study_user_attr(confirmation.study_id, _CONDITIONS, conditions)
    return confirmation


def _conditions(study: StudyHandle) -> dict[str, Any]:
    record, space = study.record, study.space
    return {
        "fingerprint": record.fingerprint,
        "numerics": dict(record.numerics),
        "horizon": space.horizon,
        "objective": space.objective.model_dump(mode="json"),
    }


def queue_missing(confirmation: StudyHandle, wanted: Sequence[tuple[Candidate, int]]) -> None:
    """Queue the runs that are neither recorded, nor running, nor queued.

    Runs that an earlier call queued and this one does not want leave the queue, unless a worker
    trains some run just now: then another call may want them.
    """
    with confirmation.database.creation_lock():
        found = {
            _key(trial): trial
            for trial in confirmation.trials()
            if trial.state is not TrialState.FAIL
        }
        keys = {(candidate.plan, seed) for candidate, seed in wanted}
        confirmation.queue.withdraw(
            [
                trial._trial_id
                for key, trial in found.items()
                if trial.state is TrialState.WAITING and key not in keys
            ]
        )
        confirmation.queue.enqueue(
            [
                _queued(confirmation, candidate, seed)
                for candidate, seed in wanted
                if (candidate.plan, seed) not in found
            ]
        )


def _queued(confirmation: StudyHandle, candidate: Candidate, seed: int) -> FrozenTrial:
    tables = candidate.plan.to_tables()
    attributes = {
        "plan": tables,
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


def _key(trial: FrozenTrial) -> RunKey:
    return plan_of(trial), trial.params["seed"]


def recorded_runs(confirmation: StudyHandle) -> dict[RunKey, RunResult]:
    """Return the results of the runs that have ended, by plan and seed."""
    results: dict[RunKey, RunResult] = {}
    for trial in confirmation.trials():
        if trial.state in _RECORDED:
            # In version 0.1 two calls at a time could train one run twice: the first one counts.
            results.setdefault(_key(trial), _result(trial))
    return results


def _result(trial: FrozenTrial) -> RunResult:
    if trial.state is TrialState.PRUNED:
        return RunResult(math.nan, math.nan)
    return RunResult(trial.user_attrs["validation"], trial.user_attrs["test"])


def failed_runs(confirmation: StudyHandle) -> dict[RunKey, str]:
    """Return why runs failed, by plan and seed."""
    return {
        _key(trial): failure_reason(trial)
        for trial in confirmation.trials()
        if trial.state is TrialState.FAIL
    }


def trained_shares(confirmation: StudyHandle, wanted: Set[RunKey]) -> dict[RunKey, float]:
    """Return the share of its epochs that each run has trained, by plan and seed."""
    horizon = confirmation.space.horizon
    shares: dict[RunKey, float] = {}
    for trial in confirmation.trials():
        if trial.state is not TrialState.FAIL and (key := _key(trial)) in wanted:
            share = 1.0 if trial.state in _RECORDED else len(trial.intermediate_values) / horizon
            shares[key] = max(share, shares.get(key, 0.0))
    return shares


def keep_result(study: StudyHandle, confirmation: StudyHandle, result: dict[str, Any]) -> None:
    """Keep a result with the study that was confirmed, and with its confirmation.

    The plans stay in the trials alone, since MySQL limits an attribute to 65,535 bytes.
    """
    without = {key: _without_plans(part) for key, part in result.items()}
    for handle in (confirmation, study):
        handle.database.optuna.set_study_user_attr(handle.study_id, ATTRIBUTE, without)


def _without_plans(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_plans(item) for item in part]
    return {k: v for k, v in part.items() if k != "plan"} if isinstance(part, dict) else part


@dataclass(frozen=True)
class ConfirmationSummary:
    """What `list` shows of a confirmation."""

    name: str
    parent: str
    study_id: int
    runs: int
    result: dict[str, Any] | None


def confirmations(storage: optuna.storages.BaseStorage) -> list[ConfirmationSummary]:
    """Return the confirmations of a storage, by name."""
    return [
        ConfirmationSummary(
            name=found.study_name,
            parent=found.user_attrs[CONFIRMS],
            study_id=found._study_id,
            runs=storage.get_n_trials(found._study_id, _RECORDED),
            result=found.user_attrs.get(ATTRIBUTE),
        )
        for found in sorted(storage.get_all_studies(), key=lambda found: found.study_name)
        if CONFIRMS in found.user_attrs
    ]
