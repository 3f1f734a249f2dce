"""The studies of a database that follow another one, as `list` shows them."""

from __future__ import annotations

from dataclasses import dataclass

from schedsearch.confirmation.stored_result import read_confirmation_result
from schedsearch.errors import DamagedStudyError
from schedsearch.explanation.stored_result import read_explanation_result
from schedsearch.report.confirmation import verdict_line
from schedsearch.report.explanation import explanation_line
from schedsearch.storage import (
    Database,
    FollowUp,
    Purpose,
    StudyAttributes,
    TrialQueue,
    followed_study,
    is_follow_up,
    load_all_studies,
)


@dataclass(frozen=True)
class FollowUpSummary:
    """A study that follows another one: its ended runs, all its runs, and its result in a line."""

    follows: FollowUp
    runs: int
    total: int
    verdict: str | None

    @property
    def name(self) -> str:
        """The name of the study."""
        return self.follows.name


def follow_ups(database: Database) -> tuple[list[FollowUpSummary], list[DamagedStudyError]]:
    """Return the studies that follow others in a database, by name.

    Returns:
        The studies, and an error for each one that is not valid.
    """
    found, damaged = [], []
    for study in database.read(load_all_studies):
        if is_follow_up(study):
            try:
                found.append(_summary(database, study))
            except DamagedStudyError as error:
                damaged.append(error)
    return found, damaged


def _summary(database: Database, study: StudyAttributes) -> FollowUpSummary:
    follows, counts = followed_study(study), TrialQueue(database, study.study_id).counts()
    assert follows is not None
    ended = counts.complete + counts.pruned
    return FollowUpSummary(follows, ended, counts.trials, _verdict(follows, study))


def _verdict(follows: FollowUp, study: StudyAttributes) -> str | None:
    if follows.purpose is Purpose.CONFIRM:
        confirmation = read_confirmation_result(study)
        return None if confirmation is None else verdict_line(confirmation)
    explanation = read_explanation_result(study)
    return None if explanation is None else explanation_line(explanation)
