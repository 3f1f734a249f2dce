"""The result of a confirmation, as the study keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schedsearch.confirmation.result_schema import find_mistake
from schedsearch.errors import DamagedStudyError
from schedsearch.storage import StudyAttributes, StudyHandle
from schedsearch.storage.attributes import CONFIRMATION_RESULT

#: The parts of a result that are entries of plans.
_ENTRIES = ("baseline", "constants", "plans", "comparisons")


def confirmation_result(study: StudyHandle) -> dict[str, Any] | None:
    """Return the result of a study's last confirmation, as the study keeps it.

    Raises:
        DamagedStudyError: the stored result is not valid.
    """
    return read_confirmation_result(study.attributes(CONFIRMATION_RESULT))


def read_confirmation_result(attributes: StudyAttributes) -> dict[str, Any] | None:
    """Return the result of a confirmation in a study's attributes; None if there is none.

    Raises:
        DamagedStudyError: the stored result is not valid.
    """
    return read_result(attributes, CONFIRMATION_RESULT, find_mistake, "a confirmation")


def read_result(
    attributes: StudyAttributes, key: str, find_mistake: Callable[[Any], str | None], of: str
) -> dict[str, Any] | None:
    """Return a result in a study's attributes; None if there is none.

    Raises:
        DamagedStudyError: `find_mistake` finds one; the message says what the result is `of`.
    """
    found: dict[str, Any] | None = attributes.get(key)
    if key in attributes and (mistake := find_mistake(found)) is not None:
        rule = f"the result of {of}: {mistake}"
        raise DamagedStudyError(attributes.name, None, key, found, rule)
    return found


def keep_result(
    study: StudyHandle, fresh: StudyHandle, result: dict[str, Any], key: str = CONFIRMATION_RESULT
) -> None:
    """Keep a result with the study whose plans were trained, and with the study of their runs.

    The plans stay in the trials alone, since MySQL limits an attribute to 65,535 bytes.
    """
    without = {
        name: _without_plans(part) if name in _ENTRIES else part for name, part in result.items()
    }
    for handle in (fresh, study):
        handle.database.optuna.set_study_user_attr(handle.study_id, key, without)


def _without_plans(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_plans(entry) for entry in part]
    return {key: value for key, value in part.items() if key != "plan"}
