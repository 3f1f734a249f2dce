"""Studies for the tests of the storage, on any database."""

from __future__ import annotations

from schedsearch.space import Space
from schedsearch.storage import StudyHandle, StudyRecord, create_study, open_database
from tests.searches import document


def study_at(url: str, trials: int = 100) -> StudyHandle:
    """Create a study, or raise the total of the existing one."""
    return create_study(open_database(url, create=True), record(trials))


def record(trials: int) -> StudyRecord:
    content = document()
    content["hyperparameters"]["lr"]["default"] = 0.1
    space = Space.from_document(content, "small.toml")
    numerics = {"engine": "sequential", "threads": 1, "device": "cpu", "torch": "2.13.0"}
    return StudyRecord(space, trials, numerics, "fingerprint")
