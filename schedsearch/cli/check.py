"""`schedsearch check`: find every mistake in a space, and show what will be searched."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schedsearch.cli.app import AsJson, SpaceFile, app
from schedsearch.cli.output import echo, say
from schedsearch.cli.trust import TrustTask, require_trust
from schedsearch.errors import FileError, summarize_exception

if TYPE_CHECKING:
    from schedsearch.space import Space
    from schedsearch.task import Fingerprint, Task, TrainFunction


@app.command()
def check(
    file: SpaceFile,
    task: Annotated[
        bool,
        typer.Option("--task/--no-task", help="Import the task, and check that it fits the space."),
    ] = True,
    trust_task: TrustTask = False,
    as_json: AsJson = False,
) -> None:
    """Check a space or a config, and show what will be searched.

    The command reports all mistakes of the file.
    """
    from schedsearch.report.fingerprint_text import fingerprint_json, fingerprint_lines
    from schedsearch.report.progress import spinner
    from schedsearch.report.space_summary import space_json, space_lines
    from schedsearch.space.lint import lint_warnings

    try:
        space, coverage = _load(file, task=task, trusted=trust_task)
    except FileError as error:
        if as_json:
            problems = [dataclasses.asdict(problem) for problem in error.problems]
            echo(json.dumps({"file": str(file), "problems": problems}, default=str))
        raise
    with spinner("sampling the space"):
        warnings, lines = lint_warnings(space), list(space_lines(space))
    if as_json:
        content = {"file": str(file), **space_json(space), "warnings": warnings, "problems": []}
        if coverage is not None:
            content["fingerprint"] = fingerprint_json(coverage)
        echo(json.dumps(content))
        return
    if coverage is not None:
        end_of_head = lines.index("")
        lines[end_of_head:end_of_head] = fingerprint_lines(coverage)
    for line in lines:
        echo(line)
    for warning in warnings:
        say(f"warning: {warning}")


def _load(file: Path, *, task: bool, trusted: bool) -> tuple[Space, Fingerprint | None]:
    """Return the space, and the fingerprint of its task without the data."""
    from schedsearch.space import Space

    space = Space.load(file)
    if not task:
        return space, None
    require_trust(space.task, trusted=trusted)
    from schedsearch.compatibility import validate_against_task
    from schedsearch.report.progress import spinner
    from schedsearch.samplers import make_sampler
    from schedsearch.task import describe_coverage, is_train_function, load_task

    with spinner("running the task"):
        complete = validate_against_task(space, str(file))
    make_sampler(complete, "check")
    reference, arguments = complete.task, complete.default_arguments
    loaded = load_task(reference, arguments)
    _say_which_default_counts(space, loaded)
    if is_train_function(loaded):
        say(
            f"note: only a training can show whether the training loop reports "
            f"{complete.objective.metric}"
        )
    else:
        _say_if_not_batched(loaded)
    return complete, describe_coverage(loaded, reference, arguments)


def _say_which_default_counts(space: Space, task: Task | TrainFunction) -> None:
    """Name the defaults that the file has in place of the task's."""
    replaced = [
        f"{name} {table.default:g} (the task: {task.hyperparameters[name]:g})"
        for name, table in space.document.hyperparameters.items()
        if table.default not in (None, task.hyperparameters.get(name, table.default))
    ]
    if replaced:
        say(f"note: the defaults of the file count: {', '.join(replaced)}")


def _say_if_not_batched(task: Task) -> None:
    """Say why trials cannot share a step, if they cannot; `start` then trains them one by one."""
    from schedsearch.engines.batching import why_not_batched
    from schedsearch.report.progress import spinner

    try:
        with spinner("tracing a step"):
            reason = why_not_batched(task)
    except Exception as error:
        say(f"warning: with another seed, the data or the model raise {summarize_exception(error)}")
        return
    if reason is not None:
        say(f"note: trials are trained one at a time: {reason}")
