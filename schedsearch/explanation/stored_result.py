"""The result of an explanation, as the study keeps it, and its schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool

from schedsearch.confirmation.result_schema import (
    Count,
    Entry,
    Interval,
    Number,
    Part,
    first_mistake,
)
from schedsearch.confirmation.stored_result import read_result
from schedsearch.errors import InputError
from schedsearch.scheduler import Direction
from schedsearch.schedules import from_table
from schedsearch.space.document import TaskName
from schedsearch.storage import SHAPE_ERRORS, StudyAttributes, StudyHandle
from schedsearch.storage.attributes import EXPLANATION_RESULT


class _Comparison(Entry):
    question: Literal["gain", "carries", "follows", "simpler"]
    change: Literal[
        "constants",
        "without",
        "alone",
        "path",
        "constant",
        "linear",
        "cosine",
        "step",
        "together",
    ]
    names: list[TaskName]
    schedules: dict[TaskName, dict[str, Any]]
    difference: Number
    interval: Interval
    wins: Count
    losses: Count
    p: Number
    level: Number
    verdict: Literal["worse", "better", "no difference seen", "not worse", "not shown"]


class _Result(Part):
    metric: TaskName
    direction: Direction
    test: StrictBool
    seeds: tuple[Count, Count]
    trial: Count
    mean: Number
    diverged: Count
    gain: Number
    margin: Number | None
    hypotheses: Count = 0
    comparisons: Annotated[list[_Comparison], Field(min_length=1)]
    simplest: Count | None
    paths: dict[TaskName, Annotated[list[Number], Field(min_length=1, max_length=1000)]]
    looks: list[tuple[Count, Count] | tuple[Count, Count, Number]]


def find_mistake(content: Any) -> str | None:
    """Return the first mistake in a stored result; None if it is valid."""
    mistake = first_mistake(_Result, content)
    if mistake is not None:
        return mistake
    if content["simplest"] is not None and content["simplest"] >= len(content["comparisons"]):
        return "simplest: it must be the place of a comparison"
    for comparison in content["comparisons"]:
        for name, table in comparison["schedules"].items():
            try:
                from_table(table)
            except (InputError, *SHAPE_ERRORS):
                return f"comparisons.schedules: {name} must be a schedule"
    return None


def explanation_result(study: StudyHandle) -> dict[str, Any] | None:
    """Return the result of a study's last explanation, as the study keeps it.

    Raises:
        DamagedStudyError: the stored result is not valid.
    """
    return read_explanation_result(study.attributes(EXPLANATION_RESULT))


def read_explanation_result(attributes: StudyAttributes) -> dict[str, Any] | None:
    """Return the result of an explanation in a study's attributes; None if there is none.

    Raises:
        DamagedStudyError: the stored result is not valid.
    """
    return read_result(attributes, EXPLANATION_RESULT, find_mistake, "an explanation")
