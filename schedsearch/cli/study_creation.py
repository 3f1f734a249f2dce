"""From the options of `start` to a study: created, opened, or found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from schedsearch.cli.output import say
from schedsearch.cli.storage import database_at
from schedsearch.errors import InputError, StorageError
from schedsearch.printable import count_of

if TYPE_CHECKING:
    from pathlib import Path

    from schedsearch.cli.start_options import ExtensionOptions
    from schedsearch.preparation import ComputeOptions, PreparedSpace
    from schedsearch.space import Space
    from schedsearch.storage import Database, StudyHandle
    from schedsearch.study_task import LoadedTask


def refuse_single_plan(space: Space, file: Path, storage: str) -> None:
    """Refuse a new search of one plan, whose trials would all be identical.

    Raises:
        InputError: the space has no choices, and the database has no study of its name.
    """
    trials = space.search.trials
    if not space.is_config or trials == 1:
        return
    if find_stored_space(storage, space.name) is None:
        raise InputError(
            f"{file}: has one plan, so all {trials} trials would be identical: train it with "
            f"`schedsearch train {file}`, or in a search with `schedsearch start SPACE --also "
            f"{file}`"
        )


def find_stored_space(storage: str, name: str) -> Space | None:
    """Return the space of the study with a name; None if the database or the study is missing."""
    from schedsearch.storage import find_study

    try:
        study = find_study(database_at(storage), name)
    except StorageError:
        return None
    return None if study is None else study.space


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
    from schedsearch.preparation import check_compute_options
    from schedsearch.storage import create_study, delete_if_untrained, find_study

    check_compute_options(prepared, setup)
    opened = database_at(storage, create=True)
    study = find_study(opened, prepared.space.name)
    if accept_task and study is not None:
        study = accept(study, prepared.loaded)
    if delete_if_untrained(opened, prepared.record({}, study)):
        say(
            f"study {prepared.space.name} had other settings and no trained epoch: "
            "it is created again"
        )
        study = None
    if study is None:
        return create_study(opened, prepared.record(_measured(prepared, setup, opened)))
    _warn_of_numerics(study.record.numerics, setup)
    return create_study(opened, prepared.record(study.record.numerics, study))


def _measured(prepared: PreparedSpace, setup: ComputeOptions, database: Database) -> dict[str, Any]:
    """Choose the numerics, which may take a while; Ctrl-C ends the command."""
    from schedsearch.preparation import choose_numerics
    from schedsearch.trajectories.compiled_code import kept_compiled_code

    try:
        with kept_compiled_code(database):
            return choose_numerics(prepared, setup, say)
    except KeyboardInterrupt:
        say(
            f"error: interrupted while the engines were measured: study {prepared.space.name} is "
            "not created; the same command begins again, and --lanes 1 measures nothing"
        )
        raise typer.Exit(130) from None


def accept(study: StudyHandle, loaded: LoadedTask) -> StudyHandle:
    """Record that the task as it is now is the same training, and return the study with that."""
    from schedsearch.storage import open_study
    from schedsearch.study_task import accept_study_task

    if changes := accept_study_task(study, loaded):
        say(f"study {study.name}: accepted as the same training: {', '.join(changes)}")
    else:
        say(f"study {study.name}: its task has not changed, so there is nothing to accept")
    return open_study(study.database, study.name)


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


def _warn_of_numerics(kept: Mapping[str, Any], setup: ComputeOptions) -> None:
    """Warn if a study was created with other numerics than the user asks for now."""
    # Defaults that the user did not ask for need no warning.
    asked = {
        "device": None if setup.device == "cpu" else setup.device,
        "lanes": setup.lanes,
        "tf32": setup.tf32 or None,
        "autocast": setup.autocast or None,
        "processes": setup.processes if setup.processes > 1 else None,
    }
    kept = {"processes": 1, "tf32": False, "autocast": False, **kept}
    other = [f"{key} {kept[key]}" for key, value in asked.items() if value not in (None, kept[key])]
    if other:
        say(f"warning: the study keeps the numerics it was created with: {', '.join(other)}")
