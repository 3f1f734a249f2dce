"""`schedsearch worker`: one more worker for a study, here or on another machine."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from schedsearch.cli.app import NoReuse, app
from schedsearch.cli.output import say
from schedsearch.cli.ranks import follow_other_rank
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, Study, any_study_at
from schedsearch.cli.trust import TrustTask, require_trust
from schedsearch.cores import MAX_THREADS
from schedsearch.errors import DatabaseUnavailableError, SchedSearchError
from schedsearch.garbage import without_collection

if TYPE_CHECKING:
    from schedsearch.storage import StudyHandle


@app.command()
def worker(
    study: Study,
    storage: Storage = DEFAULT_STORAGE,
    timeout: Annotated[
        float | None, typer.Option(help="Stop after so many seconds, at the epoch's end.", min=0)
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads of the worker; default: as many as the study records.",
            min=1,
            max=MAX_THREADS,
        ),
    ] = None,
    no_reuse: NoReuse = False,
    trust_task: TrustTask = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
    name: Annotated[str | None, typer.Option(hidden=True)] = None,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Train trials of a study, or runs of confirm or explain.

    The worker ends when no trial is left to begin. While other workers train the last trials it
    waits: a trial whose worker dies is queued again. Ctrl-C stops after the epoch and returns the
    trial to the queue; a second Ctrl-C stops at once. The exit status is 1 if the study has ended
    without a complete trial.
    """
    from schedsearch.launchers.supervisor import worker_name

    follow_other_rank()
    handle = any_study_at(storage, study)
    require_trust(handle.space.task, trusted=trust_task)
    deadline = None if timeout is None else time.monotonic() + timeout
    options = _WorkerOptions(name or worker_name(), deadline, threads, not no_reuse, quiet, parent)
    _train(handle, options)
    _say_end(handle, options)


@dataclass(frozen=True)
class _WorkerOptions:
    """The options of a worker; if its process is replaced, they are those of the new process.

    Attributes:
        name: unique among all workers that the study ever had.
        deadline: the time of the monotonic clock at which it stops; None: it does not.
        threads: of torch; None: as many as the study records.
        reuse: whether it reads and writes the cache of epochs.
        quiet: whether it prints only errors.
        parent: the process that started it, and with which it ends; None: the user started it.
    """

    name: str
    deadline: float | None
    threads: int | None
    reuse: bool
    quiet: bool
    parent: int | None

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def flags(self) -> list[str]:
        """Return the options for a command line, with the time that is left."""
        flags = ["--name", self.name]
        flags += [] if self.threads is None else ["--threads", str(self.threads)]
        flags += [] if self.reuse else ["--no-reuse"]
        flags += ["--quiet"] if self.quiet else []
        flags += [] if self.parent is None else ["--parent", str(self.parent)]
        if self.deadline is not None:
            flags += ["--timeout", str(max(0.0, self.deadline - time.monotonic()))]
        return flags


def _train(handle: StudyHandle, options: _WorkerOptions) -> None:
    """Run the worker; exit if a signal stopped it."""
    with without_collection():
        from schedsearch.launchers.in_process import run_worker
        from schedsearch.ranks.followers import RankDiedError
        from schedsearch.ranks.rank_group import merge_seconds, rank_group
        from schedsearch.report.dashboard_artifacts import DashboardArtifacts
        from schedsearch.signals import STOPPING, stop_signals
        from schedsearch.worker import Messages, ProcessControl

    # A process that started this worker, or a user of --quiet, reads no such lines.
    is_shown = options.parent is None and not options.quiet
    processes = handle.record.numerics.get("processes", 1)
    with (
        stop_signals(STOPPING if is_shown else None, merge_seconds()) as request,
        rank_group(processes, handle.name) as group,
    ):

        def should_stop() -> bool:
            return bool(request) or options.is_late or (group is not None and group.is_broken)

        def restart() -> None:
            environment = os.environ if group is None else group.stop()
            if request:
                os._exit(130)
            _replace_process(handle, options, environment)

        if options.parent is not None:
            request.stop_when_parent_exits(options.parent)
        try:
            run_worker(
                handle,
                name=options.name,
                control=ProcessControl(should_stop, restart),
                messages=Messages(_warn, (lambda message: None) if options.quiet else say),
                threads=options.threads,
                reuse=options.reuse,
                # One seed of a plan is no best trial.
                best_trial_callback=None if handle.follows else DashboardArtifacts(handle),
                group=group,
                is_own_process=True,
            )
            if group is not None and group.is_broken:
                # Also after the deadline: the new process has no time left, and ends all ranks.
                restart()
        except KeyboardInterrupt:
            # At once: a training loop that hangs would keep the interpreter from ending.
            os._exit(130)
        except DatabaseUnavailableError as error:
            say(f"error: {error}")
            os._exit(error.exit_code)
        except RankDiedError as error:
            if options.parent is None or request:
                raise
            say(f"warning: {error}")
            os.kill(os.getpid(), signal.SIGKILL)  # so that the parent replaces this worker
    if request.signal_count:
        if is_shown:
            say("stopped: the same command continues")
        raise typer.Exit(130)


def _say_end(handle: StudyHandle, options: _WorkerOptions) -> None:
    """Say that no trial is left to begin, if that is so; fail if the study ended without value."""
    counts = handle.queue.counts()
    if counts.waiting or handle.queue.remaining():
        return
    if not options.quiet:
        say(f"nothing is left to begin in study {handle.name}{_next_step(handle)}")
    # A process that started this worker says it once for all workers.
    if options.parent is None and not options.is_late and not counts.running:
        _require_value(handle)


def _warn(message: str) -> None:
    say(message if message.startswith("warning:") else f"warning: {message}")


def _next_step(handle: StudyHandle) -> str:
    from schedsearch.storage import Purpose

    if (follows := handle.follows) is None:
        return ""
    options = {Purpose.CONFIRM: "--top and --seeds", Purpose.EXPLAIN: "--trial and --seeds"}
    command = f"schedsearch {follows.purpose} {follows.study}"
    return f": `{command}` with its {options[follows.purpose]} judges the runs"


def _require_value(handle: StudyHandle) -> None:
    """Fail if the study has ended without a complete trial."""
    from schedsearch.report.without_value import without_value

    if reason := without_value(handle):
        raise SchedSearchError(reason)


def _replace_process(
    handle: StudyHandle, options: _WorkerOptions, environment: Mapping[str, str]
) -> NoReturn:
    """Replace this process, which hangs, by the same worker in a new one."""
    from schedsearch.task import TRUST_VARIABLE

    # Back to where this command was started: the task may have changed the folder.
    os.chdir(handle.database.folder)
    # The URL goes into the environment: every user can read command lines, and it may hold a
    # password. The user has allowed the task's code to this worker, so to its successor too.
    allowed = {"SCHEDSEARCH_STORAGE": handle.database.url, TRUST_VARIABLE: "1"}
    command = [sys.executable, "-m", "schedsearch", "worker", *options.flags(), "--", handle.name]
    os.execve(sys.executable, command, {**environment, **allowed})
