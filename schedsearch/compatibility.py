"""What only the task can tell of a space: whether the two fit each other."""

from __future__ import annotations

from collections.abc import Iterator

from schedsearch.errors import FileError, Problem, TaskError, did_you_mean
from schedsearch.space import Space
from schedsearch.space.domains import referenced_names
from schedsearch.task import (
    OPTIMIZER_HYPERPARAMETERS,
    Task,
    TaskOutputs,
    TrainFunction,
    check_task,
    is_train_function,
    load_task,
)


def validate_against_task(space: Space, file: str) -> Space:
    """Load and try the space's task, and return the space completed by the task's defaults.

    Raises:
        FileError: all that keeps the two from fitting: the task does not import or is none, it has
            no such hyperparameter, default, loss term or metric.
    """
    problems: list[Problem] = []
    try:
        task = load_task(space.task, space.document.arguments)
    except TaskError as error:
        problem = _of_task(space, error)
        raise FileError(file, [problem]) from error
    outputs = None
    try:
        outputs = check_task(task)
    except TaskError as error:
        problems.append(_of_task(space, error))
    complete = space.with_defaults(task.hyperparameters)
    problems.extend(_check_hyperparameters(complete, task, outputs))
    problems.extend(_check_outputs(complete, outputs))
    if problems:
        raise FileError(file, problems)
    return complete


def _of_task(space: Space, error: TaskError) -> Problem:
    return Problem("task", str(error).removeprefix(f"task {space.task!r}: "), space.task)


def _check_hyperparameters(
    space: Space, task: Task | TrainFunction, outputs: TaskOutputs | None
) -> Iterator[Problem]:
    known = [*task.hyperparameters]
    if not is_train_function(task):
        known.extend(OPTIMIZER_HYPERPARAMETERS)
    if outputs is not None:
        known.extend(f"weights.{term}" for term in outputs.terms)
    any_weight = outputs is None and not is_train_function(task)
    for key, name in _named(space):
        table = space.document.hyperparameters.get(name)
        if name not in known and not (any_weight and name.startswith("weights.")):
            hint = did_you_mean(name, known) or "it has " + ", ".join(dict.fromkeys(known))
            yield Problem(key, "the task has no such hyperparameter", hint=hint)
        elif table is None or table.default is None:
            rule = f"`{name}` needs a default: neither the file nor the task has one"
            yield Problem(key, rule)
        elif table.bounds and not table.bounds[0] <= table.default <= table.bounds[1]:
            low, high = table.bounds
            rule = (
                f"the task's default, {table.default}, must lie within the bounds [{low}, {high}]"
            )
            yield Problem(f"{key}.default", rule, hint="give a default of its own")


def _named(space: Space) -> Iterator[tuple[str, str]]:
    """Yield each hyperparameter of the file, after the key where the file names it."""
    for name, group in space.document.groups.items():
        for member in group.members:
            yield f"groups.{name}.members.{member}", member
    members = {member for group in space.document.groups.values() for member in group.members}
    for name in space.document.hyperparameters:
        if name not in members:
            yield f"hyperparameters.{name}", name


def _check_outputs(space: Space, outputs: TaskOutputs | None) -> Iterator[Problem]:
    if outputs is None:
        return
    metric = space.objective.metric
    if metric not in outputs.metrics:
        hint = did_you_mean(metric, outputs.metrics) or "it gives " + ", ".join(outputs.metrics)
        yield Problem("objective.metric", "the task gives no such metric", metric, hint)
    for name, families in space.hyperparameters.items():
        for term in dict.fromkeys(referenced_names(families, "term")):
            if term not in outputs.terms:
                hint = did_you_mean(term, outputs.terms) or "it gives " + ", ".join(outputs.terms)
                rule = f"follows the loss term `{term}`, which the task does not give"
                yield Problem(f"hyperparameters.{name}.families", rule, hint=hint)
