"""`schedsearch start`: create or continue a study, and search."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from schedsearch.cli import start_options as options
from schedsearch.cli.app import AsJson, NoReuse, app
from schedsearch.cli.output import say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, study_at
from schedsearch.cli.study_creation import (
    create,
    duration,
    go_on,
    launcher_on,
    make_setup,
    refuse_overrides,
)
from schedsearch.cli.trust import TrustTask, require_trust
from schedsearch.errors import InputError

if TYPE_CHECKING:
    from schedsearch.launchers.base import Launcher
    from schedsearch.storage import StudyHandle

#: Seconds between two looks at the workers, and between two looks at the study.
_LOOK = 0.2
_REDRAW = 1.0


@app.command()
def start(
    space: options.Space,
    trials: options.Trials = None,
    epochs: options.Epochs = None,
    workers: options.Workers = 1,
    on: options.On = options.Place.LOCAL,
    address: options.Address = None,
    cpus_per_worker: options.CpusPerWorker = None,
    gpus_per_worker: options.GpusPerWorker = None,
    study: options.StudyName = None,
    sampler: options.Sampler = None,
    pruner: options.Pruner = None,
    audit: options.Audit = None,
    protected: options.Protected = None,
    seed: options.Seed = None,
    seeds: options.Seeds = None,
    horizon: options.Horizon = None,
    top: options.Top = 20,
    stretch: options.Stretch = False,
    timeout: options.Timeout = None,
    epoch_timeout: options.EpochTimeout = None,
    threads: options.Threads = None,
    lanes: options.Lanes = "auto",
    device: options.Device = "cpu",
    tf32: options.TF32 = False,
    autocast: options.Autocast = False,
    also: options.Also = None,
    no_reuse: NoReuse = False,
    trust_task: TrustTask = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Create a study, or continue it, and search with workers on this machine or a Ray cluster.

    Ctrl-C stops after the epoch, and `start` goes on where it stopped; twice stops at once. A
    search that --timeout ends has done what it was asked to: it exits 0.
    """
    from schedsearch.preparation import load_space, prepare_space
    from schedsearch.user_plans import queue_user_plans, read_user_plan

    overrides = {
        "name": study,
        "search.trials": trials,
        "search.epochs": epochs,
        "search.epoch_timeout": epoch_timeout,
        "search.seed": seed,
        "search.seeds": seeds,
        "search.sampler.name": sampler,
        "search.pruner.name": pruner,
        "search.pruner.audit": audit,
        "search.pruner.protected": duration(protected),
    }
    needs = {
        "--address": address,
        "--cpus-per-worker": cpus_per_worker,
        "--gpus-per-worker": gpus_per_worker,
    }
    here = workers if on is options.Place.LOCAL else 1
    # A place that cannot be had is said before anything is written.
    with launcher_on(on, storage, needs, threads or 1) as launcher:
        if horizon is None:
            if not space.suffix:
                raise InputError(
                    f"{space}: `start` takes the space file that a study was begun with; the name "
                    "of a study only with --horizon"
                )
            given = {"device": device, "tf32": tf32, "autocast": autocast}
            searched = load_space(space, overrides)
            require_trust(searched.task, trusted=trust_task)
            setup = make_setup(here, threads, lanes, given)
            prepared = prepare_space(searched, file=str(space))
            user_plans = [read_user_plan(path, prepared.space) for path in also or ()]
            handle = create(prepared, storage, setup, threads)
        else:
            refuse_overrides(overrides)
            parent = study_at(storage, str(space))
            require_trust(parent.space.task, trusted=trust_task)
            user_plans = [read_user_plan(path, parent.space) for path in also or ()]
            handle = go_on(parent, horizon, top, stretch=stretch, reuse=not no_reuse)
        queue_user_plans(handle, user_plans)
        _say_kept(handle, trials, epochs)
        if workers == 0:
            name = handle.name
            say(f"study {name} is ready: begin workers with `schedsearch worker {name}`")
            return
        exit_code = _run(handle, workers, launcher, timeout, reuse=not no_reuse)
    _print_result(handle, as_json)
    if exit_code:
        raise typer.Exit(exit_code)


def _say_kept(handle: StudyHandle, trials: int | None, epochs: int | None) -> None:
    """Say so if a study that goes on may take more already than is asked for now."""
    budget = handle.queue.budget()
    for name, given, kept in (("trials", trials, budget.trials), ("epochs", epochs, budget.epochs)):
        if given is not None and kept is not None and given < kept:
            say(f"warning: study {handle.name} keeps its {kept} {name}: they can only be raised")


def _run(
    handle: StudyHandle, workers: int, launcher: Launcher, timeout: float | None, *, reuse: bool
) -> int:
    """Search unless the budget is spent; return the exit code."""
    from schedsearch.report.dashboard_artifacts import refresh_dashboard

    refresh_dashboard(handle, say)
    if _is_done(handle):
        _say_done(handle)
        return 0
    with handle.unless_deleted():
        exit_code = _search(handle, workers, launcher, timeout, reuse=reuse)
        refresh_dashboard(handle, say)
    return exit_code


def _is_done(handle: StudyHandle) -> bool:
    """Tell whether every trial that the budget allows has ended."""
    counts = handle.queue.counts()
    return not (counts.running or counts.waiting or handle.queue.room())


def _say_done(handle: StudyHandle) -> None:
    total, ended = handle.total(), handle.queue.counts().finished
    if ended >= total:
        say(f"all {total} trials of study {handle.name} have ended: more --trials go on")
    else:
        say(f"study {handle.name} has no epochs left for another trial: more --epochs go on")


def _search(
    handle: StudyHandle, workers: int, launcher: Launcher, timeout: float | None, *, reuse: bool
) -> int:
    """Search until all workers have ended; return the exit code: 0 also if the time is up."""
    from schedsearch.launchers.supervisor import Supervisor
    from schedsearch.report.progress import Progress
    from schedsearch.report.status import read_status
    from schedsearch.signals import stop_signals

    deadline = None if timeout is None else time.monotonic() + timeout
    shown, told, timed_out = 0.0, 0, False
    with Progress("trials") as display, stop_signals() as request:
        supervisor = Supervisor(handle, workers, launcher, display.say, reuse=reuse)
        handle.database.retrier.stop_waiting_when(lambda: bool(request))
        try:
            supervisor.start()
            while supervisor.watch():
                now = time.monotonic()
                if deadline is not None and now > deadline:
                    deadline, timed_out = None, True
                    display.say("time is up: the workers stop after this epoch")
                    supervisor.stop()
                if request.asked > told:
                    told = request.asked
                    display.say("stopping after this epoch; Ctrl-C again stops at once")
                    supervisor.stop()
                if now - shown > _REDRAW:
                    shown = now
                    display.show(read_status(handle))
                time.sleep(_LOOK)
        except KeyboardInterrupt:
            pass  # the second Ctrl-C: at once
        finally:
            supervisor.kill()
    if request.asked:
        say(f"stopped: go on with the same command, or `schedsearch worker {handle.name}`")
        raise typer.Exit(130)
    if not timed_out and handle.queue.counts().finished < handle.total() and _is_done(handle):
        _say_done(handle)
    return supervisor.exit_code or int(not (timed_out or _is_done(handle)))


def _print_result(handle: StudyHandle, as_json: bool) -> None:
    import json

    from schedsearch.report.status import read_status
    from schedsearch.report.status_text import summary_lines

    status = read_status(handle)
    typer.echo(json.dumps(status.to_json()) if as_json else "\n".join(summary_lines(status)))
