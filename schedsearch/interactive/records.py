"""What a study tells of its trials and results, as frozen records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from schedsearch.plan import Plan
from schedsearch.printable import printable
from schedsearch.report.text import describe_plan
from schedsearch.space import Space
from schedsearch.storage import plan_of
from schedsearch.storage.attributes import PLAN, RUNS, STOPPED_AFTER


@dataclass(frozen=True)
class TrialRecord:
    """A trial of a study.

    Attributes:
        number: of the trial.
        state: "complete", "pruned", "fail", "running" or "waiting".
        value: the objective; NaN if the trial is not complete.
        plan: its schedules; None if it has not begun.
        constant: whether the plan holds all that is searched constant.
        epochs: how many epochs it has reported.
        stopped_after: the number of epochs if its training ended before the horizon.
        seeds: the number of its runs.
        seconds: of training; NaN if it has not ended.
    """

    number: int
    state: str
    value: float
    plan: Plan | None
    constant: bool
    epochs: int
    stopped_after: int | None
    seeds: int
    seconds: float

    @classmethod
    def of(cls, trial: FrozenTrial, space: Space) -> TrialRecord:
        """Return the record of a trial that a study has checked."""
        tables = trial.user_attrs.get(PLAN)
        return cls(
            number=trial.number,
            state=trial.state.name.lower(),
            value=math.nan if trial.value is None else trial.value,
            plan=None if tables is None else plan_of(trial),
            constant=tables is not None and space.is_constant_plan(tables),
            epochs=len(trial.intermediate_values),
            stopped_after=trial.user_attrs.get(STOPPED_AFTER),
            seeds=len(trial.user_attrs.get(RUNS, ())),
            seconds=math.nan if trial.duration is None else trial.duration.total_seconds(),
        )

    def to_row(self) -> dict[str, Any]:
        """Return the record as a row of a table, with the plan as text."""
        plan = [] if self.plan is None else describe_plan(self.plan.to_tables())
        return {**vars(self), "plan": "; ".join(plan)}


@dataclass(frozen=True)
class Result:
    """The result of a confirmation or an explanation; its text is what the command prints.

    Where the command names an option, the text names the argument.

    Attributes:
        data: what the command prints with --json.
        lines: the sentences.
    """

    data: Mapping[str, Any]
    lines: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n".join(map(printable, self.lines))
