"""`schedsearch worker`: one more worker for a study, here or on another machine."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from schedsearch.cli.app import DEFAULT_STORAGE, NoReuse, Storage, app, say
from schedsearch.cli.completion import Study
from schedsearch.cli.consent import TrustTask, consent
from schedsearch.cli.opening import study as opened


@app.command()
def worker(
    study: Study,
    storage: Storage = DEFAULT_STORAGE,
    timeout: Annotated[
        float | None, typer.Option(help="Stop after so many seconds, at the epoch's end.", min=0)
    ] = None,
    no_reuse: NoReuse = False,
    trust_task: TrustTask = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what went wrong.")] = False,
    name: Annotated[str | None, typer.Option(hidden=True)] = None,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Train trials of a study until none is left to begin.

    Ctrl-C stops after the epoch and hands the trial back to the queue; twice stops at once.
    """
    from schedsearch.launchers.here import work
    from schedsearch.signals import stop_signals

    handle = opened(storage, study)
    consent(handle.space.task, trusted=trust_task)
    deadline = None if timeout is None else time.monotonic() + timeout
    with stop_signals() as request:
        if parent is not None:
            request.stop_with(parent)
        work(
            handle,
            name=name,
            reuse=not no_reuse,
            should_stop=lambda: (
                bool(request) or (deadline is not None and time.monotonic() > deadline)
            ),
            say=say,
            quiet=quiet,
        )
    if request.asked:
        raise typer.Exit(130)
    counts = handle.queue.counts()
    if not quiet and not counts.waiting and counts.chains >= handle.total():
        say(f"nothing is left to begin in study {handle.name}")
