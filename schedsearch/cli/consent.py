"""Whether code may run that is neither built in nor the user's own."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from schedsearch.errors import InputError

TrustTask = Annotated[
    bool,
    typer.Option(
        "--trust-task",
        envvar="SCHEDSEARCH_TRUST_TASK",
        help="Run the task's code wherever it lies. Otherwise what is neither built in nor "
        "under the current folder is asked for, or refused where nobody can be asked.",
    ),
]


def consent(reference: str, *, trusted: bool) -> None:
    """Let a task's code be run, or ask whether it may.

    Raises:
        InputError: nobody says that it may.
        TaskError: the reference is not written MODULE:ATTRIBUTE.
    """
    from schedsearch.task import find_untrusted_code

    place = None if trusted else find_untrusted_code(reference)
    if place is None:
        return
    found = f"task {reference!r} runs code of {place}, which is not under the current folder"
    terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if not (terminal and typer.confirm(f"{found}\nRun it?", err=True)):
        raise InputError(f"{found}: --trust-task lets it")
