"""From the options of `start` to a study: created, opened, or found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from schedsearch.cli.output import say
from schedsearch.errors import InputError
from schedsearch.printable import count_of

if TYPE_CHECKING:
    from pathlib import Path

    from schedsearch.cli.start_options import EarlierOptions, ExtensionOptions
    from schedsearch.earlier import Beginning
    from schedsearch.preparation import ComputeOptions, PreparedSpace
    from schedsearch.space import Space
    from schedsearch.storage import Database, StudyHandle
    from schedsearch.study_setup import Say


def refuse_single_plan(space: Space, file: Path, storage: str) -> None:
    """Refuse a new search of one plan, whose trials would all be identical.

    Raises:
        InputError: the space has no choices, and the database has no study of this plan.
    """
    trials = space.search.trials
    if not space.is_config or trials == 1:
        return
    from schedsearch.study_setup import find_stored_space

    stored = find_stored_space(storage, space.name)
    if stored is None or not stored.is_config:
        raise InputError(
            f"{file}: has one plan, so all {trials} trials would be identical: train it with "
            f"`schedsearch train {file}`, or in a search with `schedsearch start SPACE --also "
            f"{file}`"
        )


def create(
    prepared: PreparedSpace,
    storage: str,
    setup: ComputeOptions,
    *,
    accept_task: bool,
) -> StudyHandle:
    """Create the study of a space, or open it if it exists.

    Args:
        prepared: the space and its task.
        storage: the database's URL.
        setup: how the trials are trained, where the study does not fix it yet.
        accept_task: record that a changed task is the same training.
    """
    from schedsearch.study_setup import open_or_create

    return open_or_create(prepared, storage, setup, say, accept_task=accept_task, measure=_measured)


def _measured(
    prepared: PreparedSpace, setup: ComputeOptions, database: Database, say: Say
) -> dict[str, Any]:
    """Choose the numerics, which may take a while; Ctrl-C ends the command."""
    from schedsearch.study_setup import measure_numerics

    try:
        return measure_numerics(prepared, setup, database, say)
    except KeyboardInterrupt:
        say(
            f"error: interrupted while the engines were measured: study {prepared.space.name} is "
            "not created; the same command begins again, and --lanes 1 measures nothing"
        )
        raise typer.Exit(130) from None


def read_earlier(space: Space, options: EarlierOptions, storage: str) -> Beginning:
    """Read what a study takes of earlier studies, except those that it has recorded already."""
    from schedsearch.earlier import read_from

    return read_from(space, storage, options.names, options.from_storage)


def extend(parent: StudyHandle, options: ExtensionOptions, *, reuse: bool) -> StudyHandle:
    """Open the study that extends another one; create it if it is missing."""
    from schedsearch.extension import extend_study
    from schedsearch.trajectories import open_store

    assert options.horizon is not None
    store = open_store(parent.database, say) if reuse else None
    found = extend_study(
        parent, horizon=options.horizon, top=options.top, stretch=options.stretch, store=store
    )
    share = 100 * found.cached / found.epochs
    say(
        f"study {found.study.name}: {1 + found.plans} trials, trial 0 with every default and "
        f"{count_of(found.plans, 'plan')} of study {parent.name}, none of which is pruned; of "
        f"their {found.epochs} epochs {found.cached} ({share:.0f} %) are trained already"
    )
    if found.settled and not options.stretch:
        say(
            f"{found.settled} of its plans do not change after epoch {parent.space.horizon + 1}: "
            "--stretch keeps durations as shares of the horizon"
        )
    if found.study.record.numerics["engine"] == "loop":
        say("a training loop sees its horizon: epochs that it trained at another one do not count")
    return found.study


def changed_threads(study: StudyHandle, threads: int | None, workers: int) -> int | None:
    """Return the threads of each worker if they are not those of the study; say how to change them.

    Args:
        study: the study.
        threads: what the user asked for; None: nothing.
        workers: how many workers run here.
    """
    from schedsearch.cores import available_cores

    kept = int(study.record.numerics["threads"])
    used, cores = threads or kept, available_cores()
    processes = workers * int(study.record.numerics.get("processes", 1))
    if processes * used > max(cores, used):
        what = "workers" if processes == workers else "processes"
        say(
            f"warning: {processes} {what} with {count_of(used, 'thread')} are more than the "
            f"{cores} cores here: --threads N changes it"
        )
    if used == kept:
        return None
    say(
        f"{count_of(used, 'thread')} from now on instead of {kept}: exact numbers differ from "
        "those of earlier trials, so each trial records its threads"
    )
    return used
