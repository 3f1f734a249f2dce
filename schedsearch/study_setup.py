"""From a prepared space to its study: created, or continued with the same settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from schedsearch.errors import StorageError
from schedsearch.numerics import current_numerics
from schedsearch.preparation import (
    ComputeOptions,
    PreparedSpace,
    check_compute_options,
    choose_numerics,
)
from schedsearch.space import Space
from schedsearch.storage import (
    Database,
    StudyHandle,
    create_study,
    delete_if_untrained,
    find_study,
    list_studies,
    open_study,
)
from schedsearch.storage.quiet import open_quietly
from schedsearch.study_task import LoadedTask, accept_study_task
from schedsearch.trajectories.compiled_code import has_compiled_code, kept_compiled_code

Say: TypeAlias = Callable[[str], None]
#: Chooses the numerics of a new study.
Measure: TypeAlias = Callable[[PreparedSpace, ComputeOptions, Database, Say], dict[str, Any]]


def find_stored_space(url: str, name: str) -> Space | None:
    """Return the space of the study with a name; None if the database or the study is missing."""
    try:
        study = find_study(open_quietly(url), name)
    except StorageError:
        return None
    return None if study is None else study.space


def measure_numerics(
    prepared: PreparedSpace, options: ComputeOptions, database: Database, say: Say
) -> dict[str, Any]:
    """Choose the numerics of a new study, which may take a while."""
    with kept_compiled_code(database):
        compiled_before = partial(_compiled_before, prepared, options, database)
        return choose_numerics(prepared, options, say, compiled_before)


def _compiled_before(
    prepared: PreparedSpace, options: ComputeOptions, database: Database
) -> set[tuple[int, int]]:
    """Return the lanes and threads with which studies of a database have compiled the task.

    None of them if their compiled code is not kept here, as on another machine.
    """
    if not has_compiled_code():
        return set()
    here = current_numerics(
        "lanes",
        device=options.device,
        tf32=options.tf32,
        autocast=options.autocast,
        compiled=True,
    )
    found = set()
    for study in list_studies(database)[0]:
        numerics = study.record.numerics
        lanes, threads = numerics.get("lanes", 1), numerics["threads"]
        is_same = {**here, "lanes": lanes, "threads": threads} == dict(numerics)
        if is_same and study.record.fingerprint == prepared.loaded.fingerprint.digest:
            found.add((int(lanes), int(threads)))
    return found


def open_or_create(
    prepared: PreparedSpace,
    url: str,
    options: ComputeOptions,
    say: Say,
    *,
    accept_task: bool = False,
    measure: Measure = measure_numerics,
) -> StudyHandle:
    """Create the study of a space, or open it if it exists.

    Args:
        prepared: the space and its task.
        url: of the database, which is created if it is missing.
        options: how the trials are trained, where the study does not fix it yet.
        say: receives lines for the user.
        accept_task: record that a changed task is the same training.
        measure: chooses the numerics of a new study.

    Raises:
        InputError: the options do not fit this machine or the space.
        StudyError: the study exists with other settings, or its task changed.
    """
    check_compute_options(prepared, options)
    database = open_quietly(url, create=True)
    study = find_study(database, prepared.space.name)
    if accept_task and study is not None:
        study = accept(study, prepared.loaded, say)
    if delete_if_untrained(database, prepared.record({}, study)):
        say(
            f"study {prepared.space.name} had other settings and no trained epoch: "
            "it is created again"
        )
        study = None
    if study is None:
        numerics = measure(prepared, options, database, say)
        return create_study(database, prepared.record(numerics))
    _warn_of_numerics(study.record.numerics, options, say)
    return create_study(database, prepared.record(study.record.numerics, study))


def accept(study: StudyHandle, loaded: LoadedTask, say: Say) -> StudyHandle:
    """Record that the task as it is now is the same training, and return the study with that."""
    if changes := accept_study_task(study, loaded):
        say(f"study {study.name}: accepted as the same training: {', '.join(changes)}")
    else:
        say(f"study {study.name}: its task has not changed, so there is nothing to accept")
    return open_study(study.database, study.name)


def _warn_of_numerics(kept: Mapping[str, Any], options: ComputeOptions, say: Say) -> None:
    """Warn if a study was created with other numerics than the user asks for now."""
    # Defaults that the user did not ask for need no warning.
    asked = {
        "device": None if options.device == "cpu" else options.device,
        "lanes": options.lanes,
        "tf32": options.tf32 or None,
        "autocast": options.autocast or None,
        "processes": options.processes if options.processes > 1 else None,
    }
    kept = {"processes": 1, "tf32": False, "autocast": False, **kept}
    other = [f"{key} {kept[key]}" for key, value in asked.items() if value not in (None, kept[key])]
    if other:
        say(f"warning: the study keeps the numerics it was created with: {', '.join(other)}")
