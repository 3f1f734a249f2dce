"""A study's note in the dashboard, in Markdown: its task, its space and its best trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from schedsearch.printable import describe_stop
from schedsearch.report.confirmation import verdict_line
from schedsearch.report.explanation import explanation_line
from schedsearch.report.text import describe_plan
from schedsearch.space import Space
from schedsearch.storage import PlanMean, rank_plans
from schedsearch.storage.attributes import PLAN

#: The last line of the generated text; users write below it.
_END = "*schedsearch keeps the text above this line current; write below it.*"


def study_note(
    space: Space,
    trials: Sequence[FrozenTrial],
    confirmation: Mapping[str, Any] | None,
    explanation: Mapping[str, Any] | None = None,
) -> str:
    """Return a study's note: task, space, best trials, and how to confirm and export them."""
    return "\n".join(_lines(space, trials, confirmation, explanation))


def merge_note(generated: str, previous: str) -> str:
    """Return the generated note with the text that a user wrote below the previous one.

    A note that a user replaced completely stays.

    >>> merge_note("new", "")
    'new'
    >>> merge_note("new", "my own note")
    'my own note'
    """
    if previous and _END not in previous:
        return previous
    return generated + previous.partition(_END)[2]


def _lines(
    space: Space,
    trials: Sequence[FrozenTrial],
    confirmation: Mapping[str, Any] | None,
    explanation: Mapping[str, Any] | None,
) -> Iterator[str]:
    objective, name = space.objective, space.name
    yield f"**Task** `{space.task}`, {space.horizon} epochs"
    runs = "1 seed" if space.search.seeds == 1 else f"mean of {space.search.seeds} seeds"
    yield ""
    goal = f"{objective.direction} `{objective.metric}`, {objective.value} epoch's"
    yield f"**Objective** {goal}, {runs}"
    yield ""
    for hyperparameter, families in space.searched().items():
        yield f"- `{hyperparameter}`: {', '.join(families.options)}"
    for argument, domain in space.searched_arguments().items():
        yield f"- `{argument}`: {domain}"
    yield ""
    yield f"| | trial | {objective.metric} | seeds | plan |"
    yield "| --- | --- | --- | --- | --- |"
    for title, constant in (("best schedule", False), ("best constant", True)):
        yield _row(title, rank_plans(space, trials, constant=constant))
    yield ""
    if confirmation is not None:
        yield f"**Confirmation** {verdict_line(confirmation)}"
    else:
        yield f"Test the best schedules on fresh seeds: `schedsearch confirm {name}`"
    yield ""
    if explanation is not None:
        yield f"**Explanation** {explanation_line(explanation)}"
        yield ""
    yield f"Export the best schedule: `schedsearch export {name} -o best.toml`"
    yield ""
    yield _END


def _row(title: str, ranked: Sequence[PlanMean]) -> str:
    if not ranked:
        return f"| {title} | none yet | | | |"
    best = ranked[0]
    plan = "; ".join(describe_plan(best.trial.user_attrs[PLAN]))
    error = "" if best.error is None else f" ± {best.error:.2g}"
    trial = f"{best.number}{describe_stop(best.stopped_after)}"
    return f"| {title} | {trial} | {best.mean:.5g}{error} | {best.seeds} | {plan} |"
