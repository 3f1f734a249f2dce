"""`schedsearch worker`: one more worker for a study, here or on another machine."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from schedsearch.cli.app import NoReuse, app
from schedsearch.cli.output import say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, Study, any_study_at
from schedsearch.cli.trust import TrustTask, require_trust
from schedsearch.errors import DatabaseUnavailableError, SchedSearchError

if TYPE_CHECKING:
    from schedsearch.storage import StudyHandle


@app.command()
def worker(
    study: Study,
    storage: Storage = DEFAULT_STORAGE,
    timeout: Annotated[
        float | None, typer.Option(help="Stop after so many seconds, at the epoch's end.", min=0)
    ] = None,
    no_reuse: NoReuse = False,
    trust_task: TrustTask = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
    name: Annotated[str | None, typer.Option(hidden=True)] = None,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Train trials of a study, or runs of STUDY:confirm.

    The worker ends when none is left to begin. While other workers train the last trials it waits:
    a trial whose worker dies is queued again. Ctrl-C stops after the epoch and returns the trial to
    the queue; twice stops at once. If the study has ended without a complete trial, the worker
    exits 1.
    """
    from schedsearch.launchers.in_process import run_worker
    from schedsearch.launchers.supervisor import worker_name
    from schedsearch.report.dashboard_artifacts import DashboardArtifacts
    from schedsearch.signals import stop_signals
    from schedsearch.worker import Messages, ProcessControl

    handle = any_study_at(storage, study)
    require_trust(handle.space.task, trusted=trust_task)
    deadline = None if timeout is None else time.monotonic() + timeout
    name = name or worker_name()
    flags = [*(["--no-reuse"] if no_reuse else []), *(["--quiet"] if quiet else [])]
    flags += [] if parent is None else ["--parent", str(parent)]
    with stop_signals() as request:

        def restart() -> None:
            if request:
                os._exit(130)
            # Back to where this command was started: the task may have changed the folder.
            os.chdir(handle.database.folder)
            _replace_process(handle.database.url, study, ["--name", name, *flags], deadline)

        def should_stop() -> bool:
            return bool(request) or (deadline is not None and time.monotonic() > deadline)

        if parent is not None:
            request.stop_when_parent_exits(parent)
        try:
            run_worker(
                handle,
                name=name,
                control=ProcessControl(should_stop, restart),
                messages=Messages(_warn, (lambda message: None) if quiet else say),
                reuse=not no_reuse,
                # One seed of a plan is no best trial.
                best_trial_callback=None if handle.confirms else DashboardArtifacts(handle),
            )
        except KeyboardInterrupt:
            # At once: a training loop that hangs would keep the interpreter from ending.
            os._exit(130)
        except DatabaseUnavailableError as error:
            say(f"error: {error}")
            os._exit(error.exit_code)
    if request.signal_count:
        raise typer.Exit(130)
    counts = handle.queue.counts()
    if counts.waiting or handle.queue.remaining():
        return
    if not quiet:
        say(f"nothing is left to begin in study {handle.name}{_next_step(handle)}")
    is_late = deadline is not None and time.monotonic() > deadline
    # A process that started this worker says it once for all workers.
    if parent is None and not is_late and not counts.running:
        _require_value(handle)


def _warn(message: str) -> None:
    say(message if message.startswith("warning:") else f"warning: {message}")


def _next_step(handle: StudyHandle) -> str:
    if handle.confirms is None:
        return ""
    return f": `schedsearch confirm {handle.confirms}` with its --top and --seeds judges the runs"


def _require_value(handle: StudyHandle) -> None:
    """Fail if the study has ended without a complete trial."""
    from schedsearch.report.without_value import without_value

    if reason := without_value(handle):
        raise SchedSearchError(reason)


def _replace_process(
    storage: str, study: str, flags: list[str], deadline: float | None
) -> NoReturn:
    """Replace this process, which hangs, by the same worker in a new one."""
    from schedsearch.task import TRUST_VARIABLE

    if deadline is not None:
        flags += ["--timeout", str(max(0.0, deadline - time.monotonic()))]
    # The URL goes into the environment: every user can read command lines, and it may hold a
    # password. The user has allowed the task's code to this worker, so to its successor too.
    environment = os.environ | {"SCHEDSEARCH_STORAGE": storage, TRUST_VARIABLE: "1"}
    command = [sys.executable, "-m", "schedsearch", "worker", *flags, "--", study]
    os.execve(sys.executable, command, environment)
