"""Studies that follow another one: they train plans that it found, on fresh seeds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schedsearch.errors import DamagedStudyError
from schedsearch.storage.attributes import CONFIRMS, EXPLAINS
from schedsearch.storage.study_attributes import StudyAttributes


class Purpose(StrEnum):
    """Why a study trains plans of another one; also the command that creates it."""

    CONFIRM = "confirm"
    EXPLAIN = "explain"

    @property
    def attribute(self) -> str:
        """The key of the attribute with the name of the study that is followed."""
        return {Purpose.CONFIRM: CONFIRMS, Purpose.EXPLAIN: EXPLAINS}[self]

    @property
    def noun(self) -> str:
        """What such a study is."""
        return {Purpose.CONFIRM: "confirmation", Purpose.EXPLAIN: "explanation"}[self]


@dataclass(frozen=True)
class FollowUp:
    """What a study follows: the name of the other study, and the purpose.

    >>> FollowUp("noisy_digits", Purpose.CONFIRM).name
    'noisy_digits:confirm'
    """

    study: str
    purpose: Purpose

    @property
    def name(self) -> str:
        """The name of the study that follows."""
        return f"{self.study}:{self.purpose}"


def is_follow_up(found: StudyAttributes) -> bool:
    """Return whether a study follows another one, or says so."""
    return any(purpose.attribute in found for purpose in Purpose)


def followed_study(found: StudyAttributes) -> FollowUp | None:
    """Return the study whose plans a study trains, and why; None for a search.

    Raises:
        DamagedStudyError: the attribute does not fit the name of the study.
    """
    for purpose in Purpose:
        if (key := purpose.attribute) in found:
            study: str | None = found[key]
            if study is None or found.name != FollowUp(study, purpose).name:
                rule = f"the name of the study without `{FollowUp('', purpose).name}`"
                raise DamagedStudyError(found.name, None, key, study, rule)
            return FollowUp(study, purpose)
    return None
