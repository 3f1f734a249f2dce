"""`schedsearch start`: create or continue a study, and search."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schedsearch.cli.app import DEFAULT_STORAGE, AsJson, NoReuse, Storage, app, say
from schedsearch.cli.opening import database
from schedsearch.errors import InputError

if TYPE_CHECKING:
    from schedsearch.preparation import Setup
    from schedsearch.storage import StudyHandle

#: Seconds between two looks at the workers, and between two looks at the study.
_LOOK = 0.2
_REDRAW = 1.0


@app.command()
def start(
    space: Annotated[
        Path,
        typer.Argument(
            help="A space file; with --horizon the name of a study.", show_default=False
        ),
    ],
    trials: Annotated[
        int | None, typer.Option(help="The study's total, trial 0 included.", min=1)
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Worker processes on this machine; 0 only creates the study.", min=0)
    ] = 1,
    study: Annotated[str | None, typer.Option(help="The study's name.")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="tpe, random, grid, pbt, gp, cmaes or qmc.")
    ] = None,
    pruner: Annotated[
        str | None, typer.Option(help="asha, hyperband, median, patient or none.")
    ] = None,
    audit: Annotated[
        float | None,
        typer.Option(help="Share of schedules trained to the end to see what the pruner misses."),
    ] = None,
    protected: Annotated[
        str | None,
        typer.Option(help="Opening without pruning: epochs, or a share such as 20%."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The first of the trainings' seeds.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs per trial, side by side.")] = None,
    horizon: Annotated[
        int | None,
        typer.Option(help="Go on with a study's best plans for so many epochs, as STUDY@EPOCHS."),
    ] = None,
    top: Annotated[int, typer.Option(help="With --horizon: how many plans.", min=1)] = 20,
    stretch: Annotated[
        bool,
        typer.Option("--stretch", help="With --horizon: durations stay shares of the horizon."),
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(help="Stop after so many seconds, at the epoch's end.", min=0)
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads per worker; default: the machine's cores shared out.", min=1),
    ] = None,
    lanes: Annotated[
        str, typer.Option(help="Runs in one batched step of a worker: a number, or auto.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="Where to train, as torch names it.")] = "cpu",
    tf32: Annotated[
        bool, typer.Option("--tf32", help="Let a GPU multiply matrices in TF32.")
    ] = False,
    autocast: Annotated[
        bool, typer.Option("--autocast", help="Let the models compute in bfloat16.")
    ] = False,
    no_reuse: NoReuse = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Create a study, or continue it, and search with worker processes on this machine.

    Ctrl-C stops after the epoch, and `start` goes on where it stopped; twice stops at once. A
    search that --timeout ends has done what it was asked to: it exits 0.
    """
    overrides = {
        "name": study,
        "search.trials": trials,
        "search.seed": seed,
        "search.seeds": seeds,
        "search.sampler.name": sampler,
        "search.pruner.name": pruner,
        "search.pruner.audit": audit,
        "search.pruner.protected": _duration(protected),
    }
    if horizon is None:
        given = {"device": device, "tf32": tf32, "autocast": autocast}
        handle = _create(space, overrides, storage, _setup(workers, threads, lanes, given), threads)
    else:
        _refuse_overrides(overrides)
        handle = _extend(str(space), horizon, top, storage, stretch=stretch, reuse=not no_reuse)
    if workers == 0:
        say(f"study {handle.name} is ready: begin workers with `schedsearch worker {handle.name}`")
        return
    total = handle.total()
    if trials is not None and trials < total:
        say(f"warning: study {handle.name} keeps its {total} trials: --trials can only raise them")
    if handle.queue.counts().finished >= total:
        say(f"all {total} trials of study {handle.name} have ended: more --trials go on")
        exit_code = 0
    else:
        exit_code = _search(handle, workers, timeout, reuse=not no_reuse)
    _print_result(handle, as_json)
    if exit_code:
        raise typer.Exit(exit_code)


def _setup(workers: int, threads: int | None, lanes: str, given: Mapping[str, Any]) -> Setup:
    from schedsearch.preparation import Setup, threads_for

    return Setup(
        threads=threads or threads_for(workers),
        workers=max(1, workers),
        lanes=_lanes(lanes),
        **given,
    )


def _create(
    space: Path,
    overrides: Mapping[str, Any],
    storage: str,
    setup: Setup,
    threads: int | None,
) -> StudyHandle:
    """Create the study of a space, or find it."""
    from schedsearch.preparation import check_setup, choose_numerics, load_space, prepare
    from schedsearch.storage import create_study, recorded_numerics

    prepared = prepare(load_space(space, overrides), file=str(space))
    check_setup(prepared, setup)
    opened = database(storage, create=True)
    numerics = recorded_numerics(opened, prepared.space.name)
    if numerics is None:
        numerics = choose_numerics(prepared, setup, say)
    else:
        _warn_of_numerics(numerics, setup, threads)
    return create_study(opened, prepared.record(numerics))


def _refuse_overrides(overrides: Mapping[str, Any]) -> None:
    if given := [key.removeprefix("search.") for key, v in overrides.items() if v is not None]:
        names = ", ".join(given)
        raise InputError(f"--horizon goes on with a study as it was created: leave out its {names}")


def _extend(
    name: str, horizon: int, top: int, storage: str, *, stretch: bool, reuse: bool
) -> StudyHandle:
    """Make the study that goes on with another's best plans for more epochs, or find it."""
    from schedsearch.extension import extend
    from schedsearch.storage import open_study
    from schedsearch.trajectories import open_store

    opened = database(storage)
    parent = open_study(opened, name)
    store = open_store(opened, say) if reuse else None
    found = extend(parent, horizon=horizon, top=top, stretch=stretch, store=store)
    share = 100 * found.known / found.epochs
    say(
        f"study {found.study.name}: of the {found.epochs} epochs of its plans {found.known} "
        f"({share:.0f} %) are known already"
    )
    return found.study


def _duration(given: str | None) -> int | str | None:
    return int(given) if given is not None and given.isdecimal() else given


def _lanes(given: str) -> int | None:
    if given == "auto":
        return None
    if not given.isdecimal() or int(given) < 1:
        raise InputError(f"--lanes is {given!r}, but must be a whole number of at least 1, or auto")
    return int(given)


def _warn_of_numerics(kept: Mapping[str, Any], setup: Setup, threads: int | None) -> None:
    """Say so if a study that goes on was created with other numerics than are asked for now."""
    from schedsearch.preparation import cores

    # What was not asked for is not missed.
    asked = {
        "device": None if setup.device == "cpu" else setup.device,
        "threads": threads,
        "lanes": setup.lanes,
        "tf32": setup.tf32 or None,
        "autocast": setup.autocast or None,
    }
    other = [
        f"{key} {kept.get(key, False)}"
        for key, value in asked.items()
        if value not in (None, kept.get(key, False))
    ]
    if other:
        say(f"warning: the study keeps the numerics it was created with: {', '.join(other)}")
    if setup.workers * kept["threads"] > max(cores(), kept["threads"]):
        say(
            f"warning: {setup.workers} workers of {kept['threads']} threads, which the study "
            f"keeps, are more than the {cores()} cores here"
        )


def _search(handle: StudyHandle, workers: int, timeout: float | None, *, reuse: bool) -> int:
    """Search until all workers have ended; return the exit code: 0 also if the time is up."""
    from schedsearch.launchers.local import LocalWorkers
    from schedsearch.report.progress import SearchDisplay
    from schedsearch.report.status import read_status
    from schedsearch.signals import stop_signals

    deadline = None if timeout is None else time.monotonic() + timeout
    shown, told, timed_out = 0.0, 0, False
    with SearchDisplay(handle.total()) as display, stop_signals() as request:
        local = LocalWorkers(handle, workers, display.say, reuse=reuse)
        try:
            local.start()
            while local.watch():
                now = time.monotonic()
                if deadline is not None and now > deadline:
                    deadline, timed_out = None, True
                    display.say("time is up: the workers stop after this epoch")
                    local.stop()
                if request.asked > told:
                    told = request.asked
                    display.say("stopping after this epoch; Ctrl-C again stops at once")
                    local.stop()
                if now - shown > _REDRAW:
                    shown = now
                    display.show(read_status(handle))
                time.sleep(_LOOK)
        except KeyboardInterrupt:
            pass  # the second Ctrl-C: at once
        finally:
            local.kill()
    if request.asked:
        say(f"stopped: go on with the same command, or `schedsearch worker {handle.name}`")
        raise typer.Exit(130)
    all_ended = handle.queue.counts().finished >= handle.total()
    return local.exit_code or int(not (all_ended or timed_out))


def _print_result(handle: StudyHandle, as_json: bool) -> None:
    import json

    from schedsearch.report.progress import summary_lines
    from schedsearch.report.status import read_status

    status = read_status(handle)
    typer.echo(json.dumps(status.to_json()) if as_json else "\n".join(summary_lines(status)))
