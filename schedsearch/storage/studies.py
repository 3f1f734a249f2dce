"""A study and its record: the settings that were fixed when it was created."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from schedsearch.errors import (
    StudyError,
)
from schedsearch.plan import Plan
from schedsearch.space import Space
from schedsearch.storage.attribute_rules import SHAPE_ERRORS
from schedsearch.storage.attributes import EPOCH_TIMEOUT, PLAN, TERMS, VALUES, is_superseded
from schedsearch.storage.batched_storage import BatchedStorage
from schedsearch.storage.claims import lock_study
from schedsearch.storage.counts import count_epochs_by_trial
from schedsearch.storage.database import Database
from schedsearch.storage.earlier_studies import EarlierStudy
from schedsearch.storage.follow_ups import FollowUp
from schedsearch.storage.plan_means import PlanMean, rank_plans
from schedsearch.storage.pruned_view import PrunedView
from schedsearch.storage.queue import TrialQueue
from schedsearch.storage.rows import (
    Observed,
    load_trials,
    paused_garbage_collection,
    trial_rows,
)
from schedsearch.storage.study_attributes import (
    StudyAttributes,
    has_study,
    load_attributes,
    require_study,
    set_attribute,
)
from schedsearch.storage.tables import (
    parameters,
    reports,
    study_attributes,
    system_attributes,
)
from schedsearch.storage.trial_checks import (
    check_observed,
    check_outline,
    check_trial,
    find_damage,
)

#: A trial without its curves and its parameters.
_OUTLINE = Observed(
    unused=frozenset({VALUES, TERMS}), skipped=frozenset({parameters, reports, system_attributes})
)


@dataclass(frozen=True)
class StudyRecord:
    """The settings that are fixed when a study is created; only the number of trials may grow.

    Attributes:
        space: the normalised space, with the task's defaults.
        trials: the total number of trials, with trial 0.
        numerics: the settings that change the exact numbers, but not the meaning: see `numerics`.
        fingerprint: the hash of the task's fingerprint, see `task.Fingerprint`.
        follows: the study whose plans this one trains: each trial trains a plan with a fresh seed,
            and evaluates it on the test split. None for a search.
        parts: the parts of the last accepted version of the task; empty if version 0.1 created the
            study.
        accepted: the hashes of the versions of the task that count as the same training.
        earlier: the studies that this one began from.
    """

    space: Space
    trials: int
    numerics: Mapping[str, Any]
    fingerprint: str
    follows: FollowUp | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    accepted: Sequence[str] = ()
    earlier: tuple[EarlierStudy, ...] = ()

    @property
    def name(self) -> str:
        """The study's name."""
        return self.space.name if self.follows is None else self.follows.name


@dataclass(frozen=True)
class TrialOutline:
    """A row of a trial without its curves and parameters, and how many epochs it reported."""

    trial: FrozenTrial
    epochs: int


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
    def follows(self) -> FollowUp | None:
        """The study whose plans this one trains, and why; None for a search."""
        return self.record.follows

    @cached_property
    def queue(self) -> TrialQueue:
        """The queue of its trials."""
        return TrialQueue(self.database, self.study_id)

    def total(self) -> int:
        """Return the current total number of trials; `start` may raise it at any time."""
        return self.queue.budget().trials

    def epoch_timeout(self) -> float | None:
        """Return the maximum seconds of an epoch; None: no limit."""
        timeout: float | None = self.attributes(EPOCH_TIMEOUT).get(EPOCH_TIMEOUT)
        return timeout

    def attributes(self, *keys: str) -> StudyAttributes:
        """Return the current attributes of the study with these keys; of all keys if none is given.

        Raises:
            KeyError: the study was deleted.
        """
        return self.database.read(
            lambda connection: load_attributes(connection, self.study_id, keys or None)
        )

    def record_attribute(self, key: str, value: Any) -> None:
        """Set an attribute of the study, with retries while the database is unavailable."""

        def record(connection: Connection) -> None:
            lock_study(connection, self.study_id)
            if load_attributes(connection, self.study_id, (key,)).get(key) != value:
                text = json.dumps(value)
                set_attribute(connection, study_attributes, self.study_id, key, text)

        self.database.write(record)

    def has_ended(self) -> bool:
        """Return whether every trial that the budget allows has ended."""
        counts = self.queue.counts()
        return not (counts.running or counts.waiting or self.queue.remaining())

    def no_complete_trial(self) -> StudyError:
        """Return the error for a study without a complete trial."""
        if not self.has_ended():
            return StudyError(
                f"study {self.name} has no complete trial yet: continue it with `schedsearch start`"
            )
        counts = self.queue.counts()
        return StudyError(
            f"study {self.name} {counts.describe_no_value(ended=True)} (hint: to try again, give "
            f"`schedsearch start` --trials above {self.total()})"
        )

    @contextmanager
    def unless_deleted(self) -> Iterator[None]:
        """Raise StudyError for an error that is due to the deletion of the study.

        Raises:
            StudyError: the study was deleted.
        """
        try:
            yield
        except (KeyError, SQLAlchemyError):
            if self.database.read(lambda connection: has_study(connection, self.study_id)):
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
        view = PrunedView(storage, partial(check_observed, self.name))
        return optuna.load_study(study_name=self.name, storage=view, sampler=sampler, pruner=pruner)

    def trials(self) -> list[FrozenTrial]:
        """Return all trials by number; of a retried trial, its last row."""
        return [row for row in self.rows() if not is_superseded(row)]

    def rows(self) -> list[FrozenTrial]:
        """Return all rows of trials by number, with the superseded ones.

        Raises:
            DamagedStudyError: the database contains what no worker writes.
            KeyError: the study was deleted.
        """
        try:
            with paused_garbage_collection():
                return self.database.read(self._load_rows)
        except SHAPE_ERRORS as error:
            raise self.database.read(lambda c: find_damage(c, self.study_id)) from error

    def _load_rows(self, connection: Connection) -> list[FrozenTrial]:
        require_study(connection, self.study_id)
        listed = list(connection.execute(trial_rows(self.study_id)))
        # A finished trial never changes.
        found = dict(self._finished)
        for row in load_trials(connection, [row for row in listed if row[0] not in found]):
            check_trial(self.name, row)
            found[row._trial_id] = row
            if row.state.is_finished():
                self._finished[row._trial_id] = row
        return [found[row[0]] for row in listed]

    @cached_property
    def _finished(self) -> dict[int, FrozenTrial]:
        """The finished trials that were read and checked, by id."""
        return {}

    def outlines(self) -> list[TrialOutline]:
        """Return all rows of trials by number, without their curves: much faster than `rows`.

        Of a plan only the tables are checked; see `check_plan`.

        Raises:
            DamagedStudyError: the database contains what no worker writes.
            KeyError: the study was deleted.
        """
        try:
            with paused_garbage_collection():
                return self.database.read(self._load_outlines)
        except SHAPE_ERRORS as error:
            raise self.database.read(lambda c: find_damage(c, self.study_id)) from error

    def _load_outlines(self, connection: Connection) -> list[TrialOutline]:
        require_study(connection, self.study_id)
        listed = list(connection.execute(trial_rows(self.study_id)))
        epochs = count_epochs_by_trial(connection, self.study_id)
        found = []
        for row in load_trials(connection, listed, _OUTLINE):
            check_outline(self.name, row)
            found.append(TrialOutline(row, epochs.get(row._trial_id, 0)))
        return found

    def ranked_plans(self, *, constant: bool | None = None) -> list[PlanMean]:
        """Return the plans of complete trials, best first; see `rank_plans`."""
        return rank_plans(self.space, self.trials(), constant=constant)

    def complete_trials(self, *, constant: bool | None = None) -> list[FrozenTrial]:
        """Return the complete trials, those of the best plan first; see `rank_plans`."""
        return [trial for plan in self.ranked_plans(constant=constant) for trial in plan.trials]

    def trial(self, number: int) -> FrozenTrial:
        """Return a trial by its number; raise StudyError if there is none."""
        for trial in self.trials():
            if trial.number == number:
                return trial
        raise StudyError(f"study `{self.name}` has no trial {number}")


def plan_of(trial: FrozenTrial) -> Plan:
    """Return the plan of a trial that `check_trial` accepts."""
    return Plan.from_tables(trial.user_attrs[PLAN])
