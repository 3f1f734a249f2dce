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

_Count = Annotated[StrictInt, Field(ge=0, lt=2**31)]
_Number = Annotated[FiniteFloat, Field(strict=True)]


def _ascending(ends: tuple[float, float]) -> tuple[float, float]:
    if not ends[0] <= ends[1]:
        raise ValueError("must be in ascending order")
    return ends


#: An interval is infinite if there are too few differences for its level.
_End = Annotated[float, Field(strict=True)]
_Interval = Annotated[tuple[_End, _End], AfterValidator(_ascending)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Entry(_Part):
    number: _Count | None
    mean: _Number
    diverged: _Count
    stopped: _Count = 0


class _Against(_Part):
    number: _Count | None
    difference: _Number
    interval: _Interval
    wins: _Count
    losses: _Count


class _Plan(_Entry):
    difference: _Number
    interval: _Interval
    wins: _Count
    losses: _Count
    p: _Number
    level: _Number
    verdict: Literal["better", "worse", "no difference seen"]
    seeds_to_show: _Count | None
    against: Annotated[list[_Against], Field(min_length=1)]


class _Result(_Part):
    metric: TaskName
    direction: Direction
    test: StrictBool
    seeds: tuple[_Count, _Count]
    baseline: _Entry
    constants: Annotated[list[_Entry], Field(min_length=1)]
    plans: Annotated[list[_Plan], Field(min_length=1)]
    judged: list[tuple[_Count, list[_Count]]] = []
    looks: list[_Count] = []
    coarse: list[str] = []


def find_mistake(content: Any) -> str | None:
    """Return the first mistake in a stored result; None if it is valid.

    >>> find_mistake([])
    'it must be a table'
    """
    if not isinstance(content, dict):
        return "it must be a table"
    try:
        # From JSON, a list stands for a tuple.
        result = _Result.model_validate(content, strict=False)
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            return "it is nested too deep"
        detail = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, detail["loc"]))
        return f"{key}: {detail['msg']}"
    if any(len(plan.against) != len(result.constants) for plan in result.plans):
        return "plans.against: it must have an item for each constant"
    return None
