"""`schedsearch start`: create or continue a study, and search."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from schedsearch.cli import start_options as options
from schedsearch.cli.app import AsJson, NoReuse, app
from schedsearch.cli.option_groups import grouped
from schedsearch.cli.output import echo, say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, study_at
from schedsearch.cli.study_creation import (
    changed_threads,
    create,
    extend,
    read_earlier,
    refuse_single_plan,
)
from schedsearch.cli.trust import TrustTask, require_trust
from schedsearch.cli.worker_options import Place, PlaceOptions
from schedsearch.errors import InputError, SchedSearchError
from schedsearch.garbage import without_collection
from schedsearch.supervision import WorkerGroup, supervise

if TYPE_CHECKING:
    from schedsearch.preparation import ComputeOptions, PreparedSpace
    from schedsearch.storage import StudyHandle
    from schedsearch.user_plans import UserPlan


@app.command()
@grouped
def start(
    space: options.Space,
    search: options.SearchOptions,
    extension: options.ExtensionOptions,
    training: options.TrainingOptions,
    place: PlaceOptions,
    earlier: options.EarlierOptions,
    workers: options.Workers = None,
    also: options.Also = None,
    accept_task: options.AcceptTask = False,
    no_reuse: NoReuse = False,
    trust_task: TrustTask = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Create a study, or continue it, and search.

    Options such as --trials, --sampler and --seeds override the space file. The workers run on this
    machine or on a Ray cluster. Ctrl-C stops after the epoch, and the same command continues; a
    second Ctrl-C stops at once. The exit status is 0 also if --timeout ends the search, and 1 if
    the study ends without a complete trial.
    """
    from schedsearch.user_plans import queue_user_plans, read_user_plan

    is_local = place.on is Place.LOCAL
    # A place that is not available is an error before anything is written.
    cores = (training.given_threads or 1) * training.processes_per_trial
    with place.launcher(storage, cores) as launcher:
        if extension.horizon is None:
            setup = training.setup()  # before the task is loaded, which may take a while
            with without_collection():  # the task is loaded, and torch with it
                prepared, plans = _prepare_file(
                    space,
                    search,
                    also,
                    storage,
                    trusted=trust_task,
                    when_trusted=lambda: None if workers == 0 else launcher.prepare(),
                )
            planned = _planned_workers(prepared, setup) if workers is None else workers
            setup = replace(setup, workers=max(1, planned) if is_local else 1)
            if not plans:
                refuse_single_plan(prepared.space, space, storage)
            handle = _open(prepared, storage, setup, earlier, accept_task=accept_task)
        else:
            search.refuse_any()
            earlier.refuse()
            parent = _parent(storage, str(space), trusted=trust_task, accept_task=accept_task)
            if workers != 0:
                launcher.prepare()
            plans = [read_user_plan(path, parent.space) for path in also or ()]
            handle = extend(parent, extension, reuse=not no_reuse)
        for plan in plans:
            _warn_of_cut_schedules(plan.warnings, plan.file)
        queue_user_plans(handle, plans)
        _warn_of_kept(handle, search)
        if workers is None:
            workers = _default_workers(handle, training.given_threads) if is_local else 1
        if workers == 0:
            name = handle.name
            say(f"study {name} is ready: start workers with `schedsearch worker {name}`")
            return
        threads = changed_threads(handle, training.given_threads, workers if is_local else 1)
        reuse = not no_reuse
        group = WorkerGroup(launcher, workers, place.timeout, reuse=reuse, threads=threads)
        exit_code = _run(handle, group)
    _print_result(handle, as_json)
    if exit_code:
        raise typer.Exit(exit_code)


def _open(
    prepared: PreparedSpace,
    storage: str,
    setup: ComputeOptions,
    earlier: options.EarlierOptions,
    *,
    accept_task: bool,
) -> StudyHandle:
    """Create or open the study of a space, and begin from earlier studies."""
    from schedsearch.earlier import begin_from

    beginning = read_earlier(prepared.space, earlier, storage)
    handle = create(prepared, storage, setup, accept_task=accept_task)
    if beginning.is_outdated(handle):
        beginning = read_earlier(prepared.space, earlier, storage)
    return begin_from(handle, beginning, say)


def _parent(storage: str, name: str, *, trusted: bool, accept_task: bool) -> StudyHandle:
    """Open the study that is to be extended."""
    from schedsearch.study_setup import accept
    from schedsearch.study_task import load_with_fingerprint

    parent = study_at(storage, name)
    require_trust(parent.space.task, trusted=trusted)
    if accept_task:
        parent = accept(parent, load_with_fingerprint(parent.space), say)
    return parent


def _planned_workers(prepared: PreparedSpace, setup: ComputeOptions) -> int:
    """Return how many workers will train a study, before its numerics are measured."""
    from schedsearch.cli.worker_count import workers_for_search
    from schedsearch.samplers import limit_trials
    from schedsearch.task import is_train_function

    planned = {
        "engine": "loop" if is_train_function(prepared.task) else "lanes",
        "device": setup.device,
        "threads": setup.threads or 1,
    }
    space = prepared.space
    return workers_for_search(planned, limit_trials(space, space.search.trials))


def _default_workers(handle: StudyHandle, threads: int | None) -> int:
    """Return how many workers train what is left of a study soonest."""
    from schedsearch.cli.worker_count import workers_for_search

    left = handle.total() - handle.queue.counts().finished
    numerics = handle.record.numerics
    return workers_for_search({**numerics, "threads": threads or numerics["threads"]}, left)


def _prepare_file(
    file: Path,
    search: options.SearchOptions,
    also: list[Path] | None,
    storage: str,
    *,
    trusted: bool,
    when_trusted: Callable[[], None],
) -> tuple[PreparedSpace, list[UserPlan]]:
    """Prepare the space of a file, and read the plans to race."""
    from schedsearch.preparation import load_space, prepare_space
    from schedsearch.space.cut_phases import cut_phase_warnings
    from schedsearch.study_setup import find_stored_space
    from schedsearch.user_plans import read_user_plan

    if not file.suffix:
        beside = file.with_suffix(".toml")
        example = f": `schedsearch start {beside}`" if beside.is_file() else ""
        raise InputError(
            f"{file}: `start` takes the space file that the study was created from, and the name "
            f"of a study only with --horizon{example}"
        )
    with search.named_in_errors():
        space = load_space(file, search.overrides(), partial(find_stored_space, storage))
        require_trust(space.task, trusted=trusted)
        when_trusted()
        folder = Path.cwd()
        prepared = prepare_space(space, file=str(file))
    _warn_of_cut_schedules(cut_phase_warnings(space), str(file))
    os.chdir(folder)  # the task may have changed it, and the next paths are relative to it
    return prepared, [read_user_plan(path, prepared.space) for path in also or ()]


def _warn_of_cut_schedules(lines: Iterable[str], file: str) -> None:
    for line in lines:
        say(f"warning: {file}: {line}")


def _warn_of_kept(handle: StudyHandle, search: options.SearchOptions) -> None:
    """Warn if the user asks for less than the study has in all already."""
    budget = handle.queue.budget()
    for name, given, kept in (
        ("trials", search.trials, budget.trials),
        ("epochs", search.epochs, budget.epochs),
    ):
        if given is not None and kept is not None and given < kept:
            say(
                f"warning: --{name} is {given}, but study {handle.name} has {kept} {name} already "
                "and keeps them: the number can only be raised"
            )


def _run(handle: StudyHandle, group: WorkerGroup) -> int:
    """Search unless the budget is spent; return the exit code."""
    from schedsearch.report.dashboard_artifacts import refresh_dashboard

    refresh_dashboard(handle, say)
    if handle.has_ended():
        _say_done(handle)
        return _exit_code_of(handle)
    with handle.unless_deleted():
        exit_code = _search(handle, group)
        refresh_dashboard(handle, say)
    return exit_code


def _say_done(handle: StudyHandle) -> None:
    total, ended = handle.total(), handle.queue.counts().finished
    if ended >= total:
        what = f"({ended} of {total} trials); raise --trials above {total} to continue"
    else:
        epochs = handle.queue.budget().epochs
        what = f"(no epochs are left for another trial); raise --epochs above {epochs} to continue"
    say(f"study {handle.name} is finished {what}")


def _search(handle: StudyHandle, group: WorkerGroup) -> int:
    """Search until all workers have ended; return the exit code, 0 also if the time is up."""
    from schedsearch.report.progress import Progress
    from schedsearch.report.status import read_status

    with Progress("trials") as display:
        done = supervise(handle, group, display, lambda: display.show(read_status(handle)))
    if done.interrupted:
        say(f"stopped: the same command, or `schedsearch worker {handle.name}`, continues")
        raise typer.Exit(130)
    is_done = handle.has_ended()
    if not done.timed_out and is_done and handle.queue.counts().finished < handle.total():
        _say_done(handle)
    if done.exit_code or done.timed_out:
        return done.exit_code
    return _exit_code_of(handle) if is_done else 1


def _exit_code_of(handle: StudyHandle) -> int:
    """Return 0 for a study that has ended with a value; otherwise say why there is none."""
    from schedsearch.report.without_value import without_value

    if (reason := without_value(handle)) is None:
        return 0
    say(f"error: {reason}")
    return SchedSearchError.exit_code


def _print_result(handle: StudyHandle, as_json: bool) -> None:
    import json

    from schedsearch.report.status import read_status
    from schedsearch.report.status_text import summary_lines

    status = read_status(handle)
    echo(json.dumps(status.to_json()) if as_json else "\n".join(summary_lines(status)))
