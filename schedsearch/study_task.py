"""Loading the task of a study, and comparing it with the versions that the study accepts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from schedsearch.engines import Engine, make_engine
from schedsearch.errors import StudyError
from schedsearch.space import Space
from schedsearch.storage import (
    INCONSISTENT_RECORD,
    Purpose,
    StudyHandle,
    accept_task,
    accepted_digests,
    changed_task_message,
    load_all_studies,
)
from schedsearch.storage.attributes import FINGERPRINT, PARENT
from schedsearch.task import (
    Fingerprint,
    Task,
    TrainFunction,
    describe_changes,
    fingerprint_task,
    legacy_fingerprint,
    load_task,
)


@dataclass(frozen=True)
class LoadedTask:
    """A task with its fingerprint, and the space that has its reference and arguments.

    Arguments that belong to the plan have their defaults here: see `engine_for`.
    """

    task: Task | TrainFunction
    space: Space
    fingerprint: Fingerprint

    @property
    def digest(self) -> str:
        """The hash of the fingerprint."""
        return self.fingerprint.digest

    def has_legacy_fingerprint(self, recorded: object) -> bool:
        """Return whether version 0.1 would have recorded this hash for the task."""
        space = self.space
        return recorded == legacy_fingerprint(self.task, space.task, space.default_arguments)


def load_with_fingerprint(
    space: Space, file: Path | str | None = None, *, is_checked: bool = False
) -> LoadedTask:
    """Load the task of a space or a config.

    Args:
        space: the space or config.
        file: names it in messages.
        is_checked: whether `validate_against_task` has accepted the space in this process.

    Raises:
        TaskError: it cannot be loaded, or its data or declared files cannot be read.
    """
    arguments = space.default_arguments
    task = load_task(space.task, arguments, file)
    fingerprint = fingerprint_task(task, space.task, arguments, is_checked=is_checked)
    return LoadedTask(task, space, fingerprint)


def load_study_task(study: StudyHandle) -> Task | TrainFunction:
    """Load the task of a study, and check that it is a version that the study accepts.

    Raises:
        StudyError: the task changed since; the message names what changed.
    """
    loaded = load_with_fingerprint(study.space)
    if changes := study_task_changes(study, loaded):
        raise StudyError(changed_task_message(study.name, study.space.task, changes))
    return loaded.task


def engine_for(
    space: Space,
    task: Task | TrainFunction,
    numerics: Mapping[str, Any],
    arguments: Mapping[str, Any] = MappingProxyType({}),
) -> Engine:
    """Return an engine for the plans that have these arguments.

    Args:
        space: has the task's reference, the horizon, and the other arguments.
        task: with the default arguments; it is loaded again if the plan has arguments.
        numerics: of the trainings.
        arguments: of a plan.

    Raises:
        TaskError: the task's class raises.
    """
    every = {**space.default_arguments, **arguments}
    if arguments:
        task = load_task(space.task, every)
    return make_engine(task, horizon=space.horizon, numerics=numerics, arguments=every)


def study_task_changes(study: StudyHandle, loaded: LoadedTask) -> list[str]:
    """Return what differs between a task and the versions that a study accepts, in phrases."""
    parts = study.record.parts
    if loaded.digest in accepted_versions(study):
        return []
    if parts:
        return describe_changes(parts, loaded.fingerprint.parts) or [INCONSISTENT_RECORD]
    if loaded.has_legacy_fingerprint(study.record.fingerprint):
        return []
    return ["its source, arguments or data differ"]


def accepted_versions(study: StudyHandle) -> set[str]:
    """Return the hashes of the versions of the task that count as the same training.

    A study that confirms, explains or extends another one follows that study.
    """
    found = set(study.record.accepted)
    by_name = {each.name: each for each in study.database.read(load_all_studies)}
    attributes = by_name.pop(study.name, None)
    keys = [PARENT, *(purpose.attribute for purpose in Purpose)]
    while attributes is not None:
        followed = next((attributes.get(key) for key in keys if attributes.get(key)), None)
        attributes = by_name.pop(followed or "", None)
        if attributes is not None and FINGERPRINT in attributes:
            found.update(accepted_digests(attributes))
    return found


def accept_study_task(study: StudyHandle, loaded: LoadedTask) -> list[str]:
    """Record that a task is the same training as that of a study; return what differed."""
    changes = study_task_changes(study, loaded)
    if changes or not study.record.parts:
        accept_task(study.database, study.study_id, loaded.fingerprint)
    return changes
