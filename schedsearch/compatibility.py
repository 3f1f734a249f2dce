"""Validation of a space against its task: hyperparameters, loss terms and metrics."""

from __future__ import annotations

from collections.abc import Iterator

from schedsearch.errors import FileError, Problem, TaskError, did_you_mean
from schedsearch.space import Space
from schedsearch.space.default_rules import sign_rules
from schedsearch.space.domains import extreme_values, references
from schedsearch.task import (
    OPTIMIZER_HYPERPARAMETERS,
    Task,
    TaskOutputs,
    TrainFunction,
    argument_defaults,
    check_task,
    is_train_function,
    load_task,
    refuse_changed_code,
    track_imports,
)


def validate_against_task(space: Space, file: str) -> Space:
    """Load and try the task of a space, and return the space with the defaults of the task.

    Args:
        space: the space to validate.
        file: the name of its file, for error messages.

    Raises:
        FileError: the task cannot be imported, is not a task, or lacks a hyperparameter, a default,
            a loss term or a metric that the space names; the error lists all problems.
    """
    problems: list[Problem] = []
    try:
        task = load_task(space.task, space.default_arguments, file)
    except TaskError as error:
        raise FileError(file, [_task_problem(space, error)]) from error
    outputs = None
    try:
        with refuse_changed_code(task, space.task, space.default_arguments):
            outputs = check_task(task, lambda: track_imports(space.task, space.default_arguments))
    except TaskError as error:
        problems.append(_task_problem(space, error))
    complete = space.with_defaults(task.hyperparameters)
    complete = complete.with_argument_defaults(argument_defaults(task))
    problems.extend(_check_arguments(complete, file))
    problems.extend(_check_hyperparameters(complete, task, outputs))
    problems.extend(_check_task_defaults(space, complete))
    problems.extend(_check_outputs(complete, outputs))
    if problems:
        raise FileError(file, problems)
    return complete


def _check_arguments(space: Space, file: str) -> Iterator[Problem]:
    """Try the task with each level, and with the ends of each range, beside the defaults.

    A Task computes one batch with each; a training loop only has to know the names.
    """
    for name, domain in space.arguments.items():
        if not domain.is_fixed and name not in space.default_arguments:
            yield Problem(
                f"arguments.{name}", "needs a default: neither the file nor the task has one"
            )
            continue
        for value in extreme_values(domain):
            try:
                check_task(load_task(space.task, {**space.default_arguments, name: value}, file))
            except TaskError as error:
                rule = str(error).removeprefix(f"task {space.task!r}: ")
                yield Problem(f"arguments.{name}", rule, value)
                break


def _task_problem(space: Space, error: TaskError) -> Problem:
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
    for key, name in _hyperparameter_keys(space):
        table = space.document.hyperparameters.get(name)
        if name not in known and not (any_weight and name.startswith("weights.")):
            hint = did_you_mean(name, known) or "the task has " + ", ".join(dict.fromkeys(known))
            yield Problem(key, "the task has no such hyperparameter", hint=hint)
        elif table is None or table.default is None:
            rule = f"`{name}` needs a default: neither the file nor the task has one"
            yield Problem(key, rule)
        elif table.bounds and not table.bounds[0] <= table.default <= table.bounds[1]:
            low, high = table.bounds
            rule = (
                f"the default of the task, {table.default}, must lie within the bounds "
                f"[{low}, {high}]"
            )
            yield Problem(f"{key}.default", rule, hint="set a default in the file")


def _check_task_defaults(space: Space, complete: Space) -> Iterator[Problem]:
    """Check the signs of the defaults that only the task has; those of a file are checked before.

    Args:
        space: the space of the file.
        complete: the same with the defaults of the task.
    """
    given = space.document.hyperparameters
    for name, default, rule in sign_rules(complete.document, complete.families):
        if name not in given or given[name].default is None:
            hint = f"the task's default is {default:g}: set one in the file"
            yield Problem(f"hyperparameters.{name}.default", rule, hint=hint)


def _hyperparameter_keys(space: Space) -> Iterator[tuple[str, str]]:
    """Yield the key in the file and the name of each hyperparameter."""
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
        hint = did_you_mean(metric, outputs.metrics) or "its metrics are " + ", ".join(
            outputs.metrics
        )
        yield Problem("objective.metric", "the task has no such metric", metric, hint)
    for name, families in space.hyperparameters.items():
        for key, term in references(families, "term", f"hyperparameters.{name}.families"):
            if term not in outputs.terms:
                hint = did_you_mean(term, outputs.terms) or "its loss terms are " + ", ".join(
                    outputs.terms
                )
                yield Problem(key, "the task has no such loss term", term, hint)
