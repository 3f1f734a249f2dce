"""A study and what it fixed when it was created: its space, numerics, and fingerprint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from schedsearch.errors import StudyError, did_you_mean
from schedsearch.plan import Plan
from schedsearch.space import Space
from schedsearch.storage.attributes import CONFIRMS
from schedsearch.storage.batched_storage import BatchedStorage
from schedsearch.storage.database import Database
from schedsearch.storage.pruned_view import PrunedView
from schedsearch.storage.queue import TrialQueue


def confirmation_name(study: str) -> str:
    """Return the name of the study that confirms a study.

    >>> confirmation_name("noisy_digits")
    'noisy_digits:confirm'
    """
    return f"{study}:confirm"


@dataclass(frozen=True)
class StudyRecord:
    """What a study fixes at its creation; only the number of trials may grow.

    Attributes:
        space: the normalised space, the task's defaults filled in.
        trials: how many trials the study has in all, trial 0 included.
        numerics: what changes bits without changing meaning; see `export`.
        fingerprint: of the task's source, arguments and data.
        confirms: the study whose best plans the trials train once more, each on one fresh seed,
            with the metric on the test split; None for a search.
    """

    space: Space
    trials: int
    numerics: Mapping[str, Any]
    fingerprint: str
    confirms: str | None = None

    @property
    def name(self) -> str:
        """The study's name."""
        return self.space.name if self.confirms is None else confirmation_name(self.confirms)


@dataclass(frozen=True)
class StudyHandle:
    """A study in a database, with its record."""

    database: Database
    study_id: int
    record: StudyRecord

    @property
    def name(self) -> str:
        """The study's name."""
        return self.record.name

    @property
    def space(self) -> Space:
        """The space that the study searches."""
        return self.record.space

    @property
    def confirms(self) -> str | None:
        """The study that this one confirms; None for a search."""
        return self.record.confirms

    @cached_property
    def queue(self) -> TrialQueue:
        """The trials as the workers share them."""
        return TrialQueue(self.database, self.study_id)

    def total(self) -> int:
        """Return how many trials the study has in all, as it stands now: `start` may raise it."""
        return self.queue.budget().trials

    def epoch_timeout(self) -> float | None:
        """Return the seconds that an epoch may take at most; None: as many as it needs."""
        attributes = self.database.optuna.get_study_user_attrs(self.study_id)
        return cast("float | None", attributes.get("epoch_timeout"))

    @contextmanager
    def unless_deleted(self) -> Iterator[None]:
        """Say it where something fails because the study was deleted meanwhile.

        Raises:
            StudyError: the study is gone.
        """
        try:
            yield
        except (KeyError, SQLAlchemyError):
            if self.study_id in (s._study_id for s in self.database.optuna.get_all_studies()):
                raise
            raise StudyError(f"study `{self.name}` was deleted while it was searched") from None

    def load(self) -> optuna.Study:
        """Return the Optuna study, without the sampler and the pruner that search it."""
        return optuna.load_study(study_name=self.name, storage=self.database.optuna)

    def load_for_search(
        self, sampler: BaseSampler, pruner: BasePruner, storage: BatchedStorage
    ) -> optuna.Study:
        """Return the Optuna study as a sampler and a pruner read it: see PrunedView."""
        return optuna.load_study(
            study_name=self.name, storage=PrunedView(storage), sampler=sampler, pruner=pruner
        )

    def trials(self) -> list[FrozenTrial]:
        """Return all trials but those that a successor replaced, by number."""
        return [row for row in self.rows() if "superseded_by" not in row.user_attrs]

    def rows(self) -> list[FrozenTrial]:
        """Return all trials as the database has them at one moment, by number."""
        return self.database.optuna.get_all_trials(self.study_id, deepcopy=False)

    def complete(self, *, constant: bool | None = None) -> list[FrozenTrial]:
        """Return the complete trials, best first; `constant` keeps one kind: constants, or not."""
        return ranked(self.space, self.trials(), constant=constant)

    def trial(self, number: int) -> FrozenTrial:
        """Return a trial by its number; raise StudyError if there is none."""
        for trial in self.trials():
            if trial.number == number:
                return trial
        raise StudyError(f"study {self.name} has no trial {number}")


def ranked(
    space: Space, trials: Iterable[FrozenTrial], *, constant: bool | None = None
) -> list[FrozenTrial]:
    """Return the complete ones of some trials, best first; `constant` keeps one kind."""
    lower = space.objective.to_minimize
    found = [
        trial
        for trial in trials
        if trial.state is TrialState.COMPLETE
        and trial.value is not None
        and math.isfinite(trial.value)
        and (
            constant is None or space.is_constant_plan(trial.user_attrs.get("plan", {})) == constant
        )
    ]
    return sorted(found, key=lambda trial: (lower(trial.value or 0.0), trial.number))


def plan_of(trial: FrozenTrial) -> Plan:
    """Return the plan that a trial carries."""
    return Plan.from_tables(trial.user_attrs["plan"])


def open_study(database: Database, name: str) -> StudyHandle:
    """Open a study by its name.

    Raises:
        StudyError: there is none of that name, or it is not a schedsearch study.
    """
    try:
        study_id = database.optuna.get_study_id_from_name(name)
    except KeyError:
        known = [study.study_name for study in database.optuna.get_all_studies()]
        hint = did_you_mean(name, known) or (
            f"it has {', '.join(known)}" if known else "it has none"
        )
        raise StudyError(f"{database.shown} has no study `{name}`: {hint}") from None
    attributes = database.optuna.get_study_user_attrs(study_id)
    if "space" not in attributes and CONFIRMS in attributes:
        raise StudyError(
            f"study `{name}` was made by version 0.1: `schedsearch confirm {attributes[CONFIRMS]}` "
            "continues it"
        )
    if "space" not in attributes:
        raise StudyError(f"study `{name}` was not made by schedsearch, or its creation was cut off")
    space = Space.from_document(attributes["space"], f"study {name}")
    record = StudyRecord(
        space,
        attributes["trials"],
        attributes["numerics"],
        attributes["fingerprint"],
        attributes.get(CONFIRMS),
    )
    return StudyHandle(database, study_id, record)


def recorded_numerics(database: Database, name: str) -> Mapping[str, Any] | None:
    """Return the numerics that a study fixed when it was created; None if there is no such study.

    Raises:
        StudyError: the study is not schedsearch's.
    """
    known = [study.study_name for study in database.optuna.get_all_studies()]
    return open_study(database, name).record.numerics if name in known else None


def every_study(database: Database) -> list[StudyHandle]:
    """Return the searches that schedsearch made, without their confirmations, by name."""
    studies = sorted(database.optuna.get_all_studies(), key=lambda study: study.study_name)
    return [
        open_study(database, study.study_name)
        for study in studies
        if "space" in study.user_attrs and CONFIRMS not in study.user_attrs
    ]


def only_study(database: Database) -> StudyHandle:
    """Return the one study of a database; raise StudyError if there are none or several."""
    studies = every_study(database)
    if len(studies) != 1:
        names = ", ".join(study.name for study in studies)
        rule = f"name one of its studies: {names}" if studies else "it has no study"
        raise StudyError(f"{database.shown}: {rule}")
    return studies[0]
