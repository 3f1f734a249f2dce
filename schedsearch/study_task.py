"""Loading the task of a study."""

from __future__ import annotations

from schedsearch.errors import StudyError
from schedsearch.storage import StudyHandle
from schedsearch.task import Task, TrainFunction, fingerprint, load_task


def load_study_task(study: StudyHandle) -> Task | TrainFunction:
    """Load the task of a study, and check it against the study's fingerprint.

    Raises:
        StudyError: the task differs from the one that the study was created with.
    """
    reference, arguments = study.space.task, study.space.document.arguments
    task = load_task(reference, arguments)
    if fingerprint(task, reference, arguments) != study.record.fingerprint:
        raise StudyError(
            f"{reference} changed since study `{study.name}` was created: its source, arguments "
            "or data differ; restore them, or create another study with --study NAME"
        )
    return task
