"""The question whether a task's code may run if it is neither built in nor the user's."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from schedsearch.cli.output import ask
from schedsearch.errors import InputError

TrustTask = Annotated[
    bool,
    typer.Option(
        "--trust-task",
        envvar="SCHEDSEARCH_TRUST_TASK",
        help="Run the task's code wherever it is. Without this flag, code that is neither built in "
        "nor under the current folder needs your consent on the terminal.",
    ),
]


def require_trust(reference: str, *, trusted: bool) -> None:
    """Ask on the terminal whether a task's code may run, unless it is known to be trusted.

    Raises:
        InputError: the answer is no, or there is no terminal.
        TaskError: the reference does not have the form MODULE:ATTRIBUTE, or its module has the name
            of another one.
    """
    from schedsearch.task import find_untrusted_code, refuse_name_clash

    refuse_name_clash(reference)
    path = None if trusted else find_untrusted_code(reference)
    if path is None:
        return
    question = f"task {reference!r} runs code of {path}, which is not under the current folder"
    is_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if not (is_terminal and ask(f"{question}\nRun it?")):
        raise InputError(f"{question}: add --trust-task to run it")
