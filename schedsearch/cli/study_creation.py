"""From the options of `start` to a study: made, found, or gone on with for more epochs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from schedsearch.cli.output import say
from schedsearch.cli.start_options import Place
from schedsearch.cli.storage import database_at
from schedsearch.errors import InputError

if TYPE_CHECKING:
    from schedsearch.launchers.base import Launcher
    from schedsearch.preparation import ComputeOptions, PreparedSpace
    from schedsearch.storage import StudyHandle


def make_setup(
    workers: int, threads: int | None, lanes: str, given: Mapping[str, Any]
) -> ComputeOptions:
    """Return how the trials are to be trained, as the options ask for it."""
    from schedsearch.preparation import ComputeOptions, threads_per_worker

    return ComputeOptions(
        threads=threads or threads_per_worker(workers),
        workers=max(1, workers),
        lanes=_lanes(lanes),
        **given,
    )


def launcher_on(
    on: Place, storage: str, needs: Mapping[str, Any], threads: int
) -> AbstractContextManager[Launcher]:
    """Return the place where workers are started, to be left when all of them have ended."""
    if on is Place.LOCAL:
        from schedsearch.launchers.local import LocalLauncher

        if given := [flag for flag, value in needs.items() if value is not None]:
            raise InputError(f"{given[0]} is for workers on Ray: add --on ray, or leave it out")
        return nullcontext(LocalLauncher())
    from schedsearch.launchers.ray import ray_launcher

    cpus, gpus = needs["--cpus-per-worker"], needs["--gpus-per-worker"]
    return ray_launcher(
        storage,
        address=needs["--address"],
        cpus=threads if cpus is None else cpus,
        gpus=gpus or 0,
    )


def create(
    prepared: PreparedSpace, storage: str, setup: ComputeOptions, threads: int | None
) -> StudyHandle:
    """Create the study of a space, or find it."""
    from schedsearch.preparation import check_compute_options, choose_numerics
    from schedsearch.storage import create_study, discard_untrained, recorded_numerics

    check_compute_options(prepared, setup)
    opened = database_at(storage, create=True)
    if discard_untrained(opened, prepared.space, prepared.fingerprint):
        say(
            f"study {prepared.space.name} was created otherwise, and trained nothing: "
            "it is made anew"
        )
    numerics = recorded_numerics(opened, prepared.space.name)
    if numerics is None:
        numerics = choose_numerics(prepared, setup, say)
    else:
        _warn_of_numerics(numerics, setup, threads)
    return create_study(opened, prepared.record(numerics))


def refuse_overrides(overrides: Mapping[str, Any]) -> None:
    """Refuse settings for a study that takes them all from another one."""
    if given := [key.removeprefix("search.") for key, v in overrides.items() if v is not None]:
        names = ", ".join(given)
        raise InputError(f"--horizon goes on with a study as it was created: leave out its {names}")


def go_on(
    parent: StudyHandle, horizon: int, top: int, *, stretch: bool, reuse: bool
) -> StudyHandle:
    """Make the study that goes on with another's best plans for more epochs, or find it."""
    from schedsearch.extension import extend_study
    from schedsearch.trajectories import open_store

    store = open_store(parent.database, say) if reuse else None
    found = extend_study(parent, horizon=horizon, top=top, stretch=stretch, store=store)
    share = 100 * found.cached / found.epochs
    say(
        f"study {found.study.name}: of the {found.epochs} epochs of its plans {found.cached} "
        f"({share:.0f} %) are known already"
    )
    if found.settled and not stretch:
        say(
            f"{found.settled} of its plans have come to rest by epoch {parent.space.horizon + 1}: "
            "--stretch keeps durations as shares of the horizon"
        )
    if found.study.record.numerics["engine"] == "loop":
        say("a training loop of your own sees its horizon: what it gave at another does not count")
    return found.study


def duration(given: str | None) -> int | str | None:
    """Return epochs as a number, and leave a share as it is written."""
    return int(given) if given is not None and given.isdecimal() else given


def _lanes(given: str) -> int | None:
    if given == "auto":
        return None
    if not given.isdecimal() or int(given) < 1:
        raise InputError(f"--lanes is {given!r}, but must be a whole number of at least 1, or auto")
    return int(given)


def _warn_of_numerics(kept: Mapping[str, Any], setup: ComputeOptions, threads: int | None) -> None:
    """Say so if a study that goes on was created with other numerics than are asked for now."""
    from schedsearch.preparation import available_cores

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
    if setup.workers * kept["threads"] > max(available_cores(), kept["threads"]):
        say(
            f"warning: {setup.workers} workers of {kept['threads']} threads, which the study "
            f"keeps, are more than the {available_cores()} cores here"
        )
