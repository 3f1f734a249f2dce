"""The task that a study searches, as this machine has it."""

from __future__ import annotations

from schedsearch.errors import StudyError
from schedsearch.storage import StudyHandle
from schedsearch.task import Task, TrainFunction, fingerprint, load_task


def load_study_task(study: StudyHandle) -> Task | TrainFunction:
    """Load the task of a study.

    Raises:
        StudyError: it is not the one that the study was created with.
    """
    reference, arguments = study.space.task, study.space.document.arguments
    task = load_task(reference, arguments)
    if fingerprint(task, reference, arguments) != study.record.fingerprint:
        raise StudyError(
            f"{reference} is not what study `{study.name}` was created with: its source, "
            "arguments or data changed; begin another study with --study NAME"
        )
    return task
