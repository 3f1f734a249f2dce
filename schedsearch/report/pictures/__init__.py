"""Pictures of a trial, a study, a confirmation, an explanation, or a space, by matplotlib."""

from schedsearch.report.pictures.confirmation import draw_confirmation
from schedsearch.report.pictures.explanation import draw_explanation
from schedsearch.report.pictures.preview import draw_preview
from schedsearch.report.pictures.study import draw_study
from schedsearch.report.pictures.style import image
from schedsearch.report.pictures.trial import draw_trial

__all__ = [
    "draw_confirmation",
    "draw_explanation",
    "draw_preview",
    "draw_study",
    "draw_trial",
    "image",
]
