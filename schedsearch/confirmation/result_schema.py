"""The schema of a stored result of a confirmation, which `verdicts.document` writes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictBool,
    StrictInt,
    ValidationError,
)

from schedsearch.scheduler import Direction
from schedsearch.space.document import TaskName

Count = Annotated[StrictInt, Field(ge=0, lt=2**31)]
Number = Annotated[FiniteFloat, Field(strict=True)]


def _ascending(ends: tuple[float, float]) -> tuple[float, float]:
    if not ends[0] <= ends[1]:
        raise ValueError("must be in ascending order")
    return ends


#: An interval is infinite if there are too few differences for its level.
_End = Annotated[float, Field(strict=True)]
Interval = Annotated[tuple[_End, _End], AfterValidator(_ascending)]


class Part(BaseModel):
    """A table of a result; it may have more keys."""

    model_config = ConfigDict(extra="allow")


class Entry(Part):
    """A plan with its runs."""

    number: Count | None
    mean: Number
    diverged: Count
    stopped: Count = 0


class _Against(Part):
    number: Count | None
    difference: Number
    interval: Interval
    wins: Count
    losses: Count


class _Plan(Entry):
    difference: Number
    interval: Interval
    wins: Count
    losses: Count
    p: Number
    level: Number
    verdict: Literal["better", "worse", "no difference seen"]
    seeds_to_show: Count | None
    against: Annotated[list[_Against], Field(min_length=1)]


class _Result(Part):
    metric: TaskName
    direction: Direction
    test: StrictBool
    seeds: tuple[Count, Count]
    baseline: Entry
    constants: Annotated[list[Entry], Field(min_length=1)]
    plans: Annotated[list[_Plan], Field(min_length=1)]
    judged: list[tuple[Count, list[Count]]] = []
    looks: list[Count] = []
    coarse: list[str] = []


def find_mistake(content: Any) -> str | None:
    """Return the first mistake in a stored result; None if it is valid.

    >>> find_mistake([])
    'it must be a table'
    """
    mistake = first_mistake(_Result, content)
    if mistake is not None:
        return mistake
    if any(len(plan["against"]) != len(content["constants"]) for plan in content["plans"]):
        return "plans.against: it must have an item for each constant"
    return None


def first_mistake(schema: type[BaseModel], content: Any) -> str | None:
    """Return the first mistake that a schema finds in a stored result; None if it is valid."""
    if not isinstance(content, dict):
        return "it must be a table"
    try:
        # From JSON, a list stands for a tuple.
        schema.model_validate(content, strict=False)
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            return "it is nested too deep"
        detail = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, detail["loc"]))
        return f"{key}: {detail['msg']}"
    return None
