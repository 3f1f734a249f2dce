"""A study and its record: the settings that were fixed when it was created."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from schedsearch.space.recorded_numerics import invalid_numerics
from schedsearch.storage.attributes import CONFIRMS
from schedsearch.storage.batched_storage import BatchedStorage
from schedsearch.storage.database import Database
from schedsearch.storage.pruned_view import PrunedView
from schedsearch.storage.queue import TrialQueue
from schedsearch.storage.task_versions import accepted_digests, read_parts


def confirmation_name(study: str) -> str:
    """Return the name of the study that confirms a study.

    >>> confirmation_name("noisy_digits")
    'noisy_digits:confirm'
    """
    return f"{study}:confirm"


@dataclass(frozen=True)
class StudyRecord:
    """The settings that are fixed when a study is created; only the number of trials may grow.

    Attributes:
        space: the normalised space, with the task's defaults.
        trials: the total number of trials, with trial 0.
        numerics: the settings that change the exact numbers, but not the meaning: see `numerics`.
        fingerprint: the hash of the task's fingerprint, see `task.Fingerprint`.
        confirms: the name of the study that this one confirms: each trial trains one of its best
            plans with a fresh seed, and evaluates it on the test split. None for a search.
        parts: the parts of the last accepted version of the task; empty if version 0.1 created the
            study.
        accepted: the hashes of the versions of the task that count as the same training.
    """

    space: Space
    trials: int
    numerics: Mapping[str, Any]
    fingerprint: str
    confirms: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    accepted: Sequence[str] = ()

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
        """The name of the study that this one confirms; None for a search."""
        return self.record.confirms

    @cached_property
    def queue(self) -> TrialQueue:
        """The queue of its trials."""
        return TrialQueue(self.database, self.study_id)

    def total(self) -> int:
        """Return the current total number of trials; `start` may raise it at any time."""
        return self.queue.budget().trials

    def epoch_timeout(self) -> float | None:
        """Return the maximum seconds of an epoch; None: no limit."""
        attributes = self.database.optuna.get_study_user_attrs(self.study_id)
        return cast("float | None", attributes.get("epoch_timeout"))

    @contextmanager
    def unless_deleted(self) -> Iterator[None]:
        """Raise StudyError for an error that is due to the deletion of the study.

        Raises:
            StudyError: the study was deleted.
        """
        try:
            yield
        except (KeyError, SQLAlchemyError):
            if self.study_id in (s._study_id for s in self.database.optuna.get_all_studies()):
                raise
            raise StudyError(f"study `{self.name}` was deleted during the search") from None

    def load(self) -> optuna.Study:
        """Return the Optuna study, without the sampler and the pruner of the search."""
        return optuna.load_study(study_name=self.name, storage=self.database.optuna)

    def name_metric(self, metric: str) -> None:
        """Store the name of the trials' values, which Optuna's tools show, unless it is stored."""
        study = self.load()
        if study.metric_names != [metric]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names([metric])

    def load_for_search(
        self, sampler: BaseSampler, pruner: BasePruner, storage: BatchedStorage
    ) -> optuna.Study:
        """Return the Optuna study for a sampler and a pruner: they read it through PrunedView."""
        return optuna.load_study(
            study_name=self.name, storage=PrunedView(storage), sampler=sampler, pruner=pruner
        )

    def trials(self) -> list[FrozenTrial]:
        """Return all trials by number; of a retried trial, its last row."""
        return [row for row in self.rows() if "superseded_by" not in row.user_attrs]

    def rows(self) -> list[FrozenTrial]:
        """Return all rows of trials by number, with the superseded ones."""
        return self.database.optuna.get_all_trials(self.study_id, deepcopy=False)

    def complete_trials(self, *, constant: bool | None = None) -> list[FrozenTrial]:
        """Return the complete trials, best first; see `rank_trials`."""
        return rank_trials(self.space, self.trials(), constant=constant)

    def trial(self, number: int) -> FrozenTrial:
        """Return a trial by its number; raise StudyError if there is none."""
        for trial in self.trials():
            if trial.number == number:
                return trial
        raise StudyError(f"study `{self.name}` has no trial {number}")


def rank_trials(
    space: Space, trials: Iterable[FrozenTrial], *, constant: bool | None = None
) -> list[FrozenTrial]:
    """Return the complete trials with a finite value, best first.

    Args:
        space: of their study.
        trials: any trials of the study.
        constant: True keeps the plans of constants only, False the other plans only.
    """
    to_minimize = space.objective.to_minimize
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
    return sorted(found, key=lambda trial: (to_minimize(trial.value or 0.0), trial.number))


def plan_of(trial: FrozenTrial) -> Plan:
    """Return the plan of a trial."""
    return Plan.from_tables(trial.user_attrs["plan"])


def _hint_for_file(name: str) -> str | None:
    is_file = name.endswith((".toml", ".yaml", ".yml", ".json"))
    return "give the name of the study; only `start` takes its file" if is_file else None


def open_study(database: Database, name: str) -> StudyHandle:
    """Open a study by its name.

    Raises:
        StudyError: the study does not exist, or it is not a study of schedsearch.
    """
    try:
        study_id = database.optuna.get_study_id_from_name(name)
    except KeyError:
        known = [study.study_name for study in database.optuna.get_all_studies()]
        hint = (
            _hint_for_file(name)
            or did_you_mean(name, known)
            or (f"its studies are {', '.join(known)}" if known else "it has no studies")
        )
        raise StudyError(f"{database.display_url} has no study `{name}`: {hint}") from None
    attributes = database.optuna.get_study_user_attrs(study_id)
    if "space" not in attributes and CONFIRMS in attributes:
        raise StudyError(
            f"study `{name}` was created by version 0.1: continue it with "
            f"`schedsearch confirm {attributes[CONFIRMS]}`"
        )
    if "space" not in attributes:
        raise StudyError(
            f"study `{name}` was not created by schedsearch, or its creation was interrupted: "
            "use another study, or run `schedsearch start` again"
        )
    space = Space.from_document(attributes["space"], f"study {name}")
    return StudyHandle(database, study_id, _record(space, attributes, name))


def _record(space: Space, attributes: Mapping[str, Any], name: str) -> StudyRecord:
    """Return the record in a study's attributes, which anyone may have written."""
    values = [attributes.get(key) for key in ("trials", "numerics", "fingerprint", CONFIRMS)]
    trials, numerics, fingerprint, confirms = cast("tuple[Any, Any, Any, Any]", values)
    problem = None
    if type(trials) is not int or not 0 <= trials < 2**31:
        problem = f"`trials` is {trials!a}, but must be a whole number"
    elif wrong := invalid_numerics(numerics):
        problem = wrong
    elif not isinstance(fingerprint, str) or not isinstance(confirms, str | None):
        problem = "its fingerprint is not text"
    if problem is not None:
        raise StudyError(f"the record of study `{name}` is damaged: {problem}")
    return StudyRecord(
        space,
        trials,
        numerics,
        fingerprint,
        confirms,
        read_parts(attributes),
        accepted_digests(attributes),
    )


def find_study(database: Database, name: str) -> StudyHandle | None:
    """Open a study by its name; return None if it does not exist.

    Raises:
        StudyError: it is not a study of schedsearch.
    """
    known = [study.study_name for study in database.optuna.get_all_studies()]
    return open_study(database, name) if name in known else None


def list_studies(database: Database) -> list[StudyHandle]:
    """Return the searches of schedsearch in a database by name, without their confirmations."""
    studies = sorted(database.optuna.get_all_studies(), key=lambda study: study.study_name)
    return [
        open_study(database, study.study_name)
        for study in studies
        if "space" in study.user_attrs and CONFIRMS not in study.user_attrs
    ]


def get_only_study(database: Database) -> StudyHandle:
    """Return the only study of a database.

    Raises:
        StudyError: the database has no study, or several.
    """
    studies = list_studies(database)
    if len(studies) != 1:
        names = ", ".join(study.name for study in studies)
        rule = f"name one of its studies: {names}" if studies else "has no studies"
        raise StudyError(f"{database.display_url}: {rule}")
    return studies[0]
