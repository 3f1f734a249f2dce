"""Workers under supervision until their study is done, the time is up, or Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from schedsearch.errors import DatabaseFileLostError

if TYPE_CHECKING:
    from schedsearch.launchers.base import Launcher
    from schedsearch.report.progress import Progress
    from schedsearch.storage import StudyHandle

#: Seconds between two checks of the workers, and between two updates of the display.
_POLL = 0.2
_REDRAW = 1.0


@dataclass(frozen=True)
class WorkerGroup:
    """The workers that a command starts.

    Attributes:
        launcher: starts them.
        number: how many.
        timeout: seconds after which they stop at the end of the epoch; None: when all is done.
        reuse: whether they read and write the cache of epochs.
        threads: of each worker; None: as many as the study records.
    """

    launcher: Launcher
    number: int
    timeout: float | None
    reuse: bool
    threads: int | None = None


@dataclass(frozen=True)
class SupervisionResult:
    """How the supervision ended.

    Attributes:
        exit_code: of the first worker that failed; 0 if none did.
        interrupted: whether the user stopped it.
        timed_out: whether the time was up.
    """

    exit_code: int
    interrupted: bool
    timed_out: bool


def supervise(
    study: StudyHandle, group: WorkerGroup, display: Progress, redraw: Callable[[], None]
) -> SupervisionResult:
    """Run workers until none has anything left to do.

    Ctrl-C, SIGTERM and the timeout stop them after the epoch; a second Ctrl-C stops at once. No
    worker is left running, however this ends.

    Args:
        study: whose trials they train.
        group: the workers.
        display: prints remarks, and the lines of the workers.
        redraw: called about once a second.

    Raises:
        typer.Exit: the file of the database was deleted or replaced, which is printed.
    """
    from schedsearch.launchers.supervisor import Supervisor
    from schedsearch.signals import STOPPING, stop_signals

    deadline = None if group.timeout is None else time.monotonic() + group.timeout
    say, drawn, stops, timed_out = display.say, 0.0, 0, False
    with stop_signals() as request:
        supervisor = Supervisor(
            study,
            group.number,
            group.launcher,
            say,
            reuse=group.reuse,
            threads=group.threads,
            relay=display.relay,
        )
        study.database.retrier.stop_waiting_when(lambda: bool(request))
        try:
            say(f"starting {group.number} worker{'s'[: group.number > 1]} ...")
            supervisor.start()
            while supervisor.watch():
                now = time.monotonic()
                if deadline is not None and now > deadline:
                    deadline, timed_out = None, True
                    say("time is up: the workers stop after this epoch")
                    supervisor.stop()
                if request.signal_count > stops:
                    stops = request.signal_count
                    say(STOPPING)
                    supervisor.stop()
                if now - drawn > _REDRAW:
                    drawn = now
                    redraw()
                time.sleep(_POLL)
        except KeyboardInterrupt:
            pass  # the second Ctrl-C: at once
        except DatabaseFileLostError as error:
            supervisor.give_up(error)
            raise typer.Exit(error.exit_code) from None
        finally:
            supervisor.kill()
    return SupervisionResult(supervisor.exit_code, bool(request.signal_count), timed_out)
