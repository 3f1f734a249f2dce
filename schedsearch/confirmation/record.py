"""A confirmation as a study of its own, beside the one it confirms: a trial for each run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from schedsearch.confirmation.candidates import Candidate
from schedsearch.confirmation.runs import Outcome
from schedsearch.errors import StudyError
from schedsearch.plan import Plan
from schedsearch.storage import CONFIRMS, StudyHandle, plan_of

#: The attribute of a study that keeps what its last confirmation found.
ATTRIBUTE = "confirmation"
#: What a run's numbers depend on, beside its plan and its seed.
_CONDITIONS = "conditions"
_ANY_SEED = {"seed": IntDistribution(0, 2**32)}


def kept(study: StudyHandle) -> dict[str, Any] | None:
    """Return the result that the study keeps of its last confirmation."""
    found: dict[str, Any] | None = study.database.optuna.get_study_user_attrs(study.study_id).get(
        ATTRIBUTE
    )
    return found


def name_of(study: str) -> str:
    """Return the name of the study that records a study's confirmation.

    >>> name_of("noisy_digits")
    'noisy_digits:confirm'
    """
    return f"{study}:confirm"


@dataclass(frozen=True)
class Record:
    """The runs of a study's confirmation, of all calls together.

    Each is a trial: COMPLETE with the metric that is compared, or PRUNED if it diverged. Its
    reports are the validation metric by epoch; its attributes say the plan, the number of the trial
    that carries it in the study, and both metrics. A trial is written whole or not at all.
    """

    study: StudyHandle
    study_id: int

    def runs(self) -> dict[tuple[Plan, int], Outcome]:
        """Return what is known, by plan and seed."""
        found: dict[tuple[Plan, int], Outcome] = {}
        for trial in self._trials():
            # Two calls at a time may both have trained a run: the first one counts.
            found.setdefault((plan_of(trial), trial.params["seed"]), _outcome(trial))
        return found

    def add(self, candidate: Candidate, seed: int, outcome: Outcome) -> None:
        """Write a run down."""
        number = {} if candidate.number is None else {"trial": candidate.number}
        diverged = math.isnan(outcome.validation)
        value = outcome.validation if outcome.test is None else outcome.test
        distributions: dict[str, BaseDistribution] = {**_ANY_SEED}
        now = datetime.now()
        trial = create_trial(
            state=TrialState.PRUNED if diverged else TrialState.COMPLETE,
            value=None if diverged else value,
            params={"seed": seed},
            distributions=distributions,
            user_attrs={
                **number,
                "plan": candidate.plan.to_tables(),
                "constant": self.study.space.is_constant_plan(candidate.plan.to_tables()),
                "validation": None if diverged else outcome.validation,
                "test": None if diverged else outcome.test,
            },
            intermediate_values=dict(enumerate(outcome.epochs, start=1)),
        )
        trial.datetime_start = now - timedelta(seconds=outcome.seconds)
        trial.datetime_complete = now
        self.study.database.optuna.create_new_trial(self.study_id, trial)

    def keep(self, result: dict[str, Any]) -> None:
        """Keep a result with the study that was confirmed, and with this one.

        Without the plans, which the runs hold: MySQL keeps 65,535 bytes of an attribute.
        """
        without = {key: _without_plans(part) for key, part in result.items()}
        for study_id in (self.study_id, self.study.study_id):
            self.study.database.optuna.set_study_user_attr(study_id, ATTRIBUTE, without)

    def _trials(self) -> Iterable[FrozenTrial]:
        storage = self.study.database.optuna
        ended = (TrialState.COMPLETE, TrialState.PRUNED)
        return storage.get_all_trials(self.study_id, deepcopy=False, states=ended)


def _without_plans(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_plans(item) for item in part]
    return {k: v for k, v in part.items() if k != "plan"} if isinstance(part, dict) else part


def _outcome(trial: FrozenTrial) -> Outcome:
    if trial.state is TrialState.PRUNED:
        return Outcome(math.nan, math.nan)
    return Outcome(trial.user_attrs["validation"], trial.user_attrs["test"])


def open_record(study: StudyHandle) -> Record:
    """Return the record of a study's confirmation; create it if there is none.

    Raises:
        StudyError: there is a study of its name that is no record of this one.
    """
    database, name = study.database, name_of(study.name)
    conditions = _conditions(study)
    with database.creating():
        storage = database.optuna
        try:
            study_id = storage.get_study_id_from_name(name)
        except KeyError:
            minimize = study.space.objective.direction == "minimize"
            direction = StudyDirection.MINIMIZE if minimize else StudyDirection.MAXIMIZE
            study_id = storage.create_new_study([direction], study_name=name)
        attributes = storage.get_study_user_attrs(study_id)
        is_new = not (attributes or storage.get_all_trials(study_id, deepcopy=False))
        if is_new or (attributes.get(CONFIRMS) == study.name and _CONDITIONS not in attributes):
            storage.set_study_user_attr(study_id, CONFIRMS, study.name)
            storage.set_study_user_attr(study_id, _CONDITIONS, conditions)
        elif attributes.get(_CONDITIONS) != conditions:
            raise StudyError(
                f"study `{name}` holds no runs of study `{study.name}` as it is now: "
                f"`schedsearch delete {name}` makes room for them"
            )
    return Record(study, study_id)


def _conditions(study: StudyHandle) -> dict[str, Any]:
    record, space = study.record, study.space
    return {
        "fingerprint": record.fingerprint,
        "numerics": dict(record.numerics),
        "horizon": space.horizon,
        "objective": space.objective.model_dump(mode="json"),
    }


@dataclass(frozen=True)
class RecordSummary:
    """What `list` says of a confirmation's study."""

    name: str
    parent: str
    study_id: int
    runs: int
    result: dict[str, Any] | None


def records(storage: optuna.storages.BaseStorage) -> list[RecordSummary]:
    """Return the confirmations of a storage, by name."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    return [
        RecordSummary(
            name=found.study_name,
            parent=found.user_attrs[CONFIRMS],
            study_id=found._study_id,
            runs=storage.get_n_trials(found._study_id, ended),
            result=found.user_attrs.get(ATTRIBUTE),
        )
        for found in sorted(storage.get_all_studies(), key=lambda found: found.study_name)
        if CONFIRMS in found.user_attrs
    ]
