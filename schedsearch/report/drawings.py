"""The pictures of a study by the names of its parts, as `plot` and a notebook draw them."""

from __future__ import annotations

from matplotlib.figure import Figure
from optuna.trial import FrozenTrial

from schedsearch.confirmation.stored_result import confirmation_result
from schedsearch.errors import InputError, StudyError
from schedsearch.explanation.stored_result import explanation_result
from schedsearch.export import best_trial
from schedsearch.report.pictures import (
    draw_confirmation,
    draw_explanation,
    draw_study,
    draw_trial,
)
from schedsearch.storage import StudyHandle


def draw_part(study: StudyHandle, part: str) -> tuple[Figure, str]:
    """Return the picture of a part of a study, and what it shows.

    Args:
        study: the study.
        part: "" for the study itself, the number of a trial, "best", "confirmation" or
            "explanation".

    Raises:
        InputError: there is no such part.
        StudyError: the study has no complete trial, no such trial, or no such result.
    """
    if part.isdecimal():
        return _draw_trial(study, study.trial(int(part)))
    match part:
        case "":
            return _draw_study(study)
        case "best":
            return _draw_trial(study, best_trial(study))
        case "confirmation":
            return _draw_confirmation(study)
        case "explanation":
            return _draw_explanation(study)
    raise InputError(
        f"{part} is not part of a study: give STUDY/NUMBER, STUDY/best, STUDY/confirmation or "
        "STUDY/explanation"
    )


def _draw_study(study: StudyHandle) -> tuple[Figure, str]:
    if not study.complete_trials():
        raise study.no_complete_trial()
    return draw_study(study.space, study.rows()), f"study {study.name}"


def _draw_trial(study: StudyHandle, trial: FrozenTrial) -> tuple[Figure, str]:
    constant = next((plan.trial for plan in study.ranked_plans(constant=True)), None)
    return draw_trial(study.space, trial, constant), f"trial {trial.number} of {study.name}"


def _draw_confirmation(study: StudyHandle) -> tuple[Figure, str]:
    result = confirmation_result(study)
    if result is None:
        raise StudyError(
            f"study {study.name} has no confirmation yet: run `schedsearch confirm {study.name}`"
        )
    return draw_confirmation(study.name, result), f"the confirmation of {study.name}"


def _draw_explanation(study: StudyHandle) -> tuple[Figure, str]:
    result = explanation_result(study)
    if result is None:
        raise StudyError(
            f"study {study.name} has no explanation yet: run `schedsearch explain {study.name}`"
        )
    figure = draw_explanation(study.space, study.name, result)
    return figure, f"the explanation of trial {result['trial']} of {study.name}"
