"""`schedsearch.search`: a search from Python."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from schedsearch.earlier import begin_from, read_from
from schedsearch.errors import InputError, SchedSearchError
from schedsearch.files import read_document
from schedsearch.interactive.python_words import in_python, raises_in_python
from schedsearch.interactive.study_view import StudyView
from schedsearch.interactive.training import refuse_live_task, train
from schedsearch.preparation import ComputeOptions, prepare_space, space_from_content
from schedsearch.report.dashboard_artifacts import DashboardArtifacts, refresh_dashboard
from schedsearch.report.progress import Progress
from schedsearch.report.status import read_status
from schedsearch.report.without_value import without_value
from schedsearch.space import Space
from schedsearch.space.cut_phases import cut_phase_warnings
from schedsearch.storage import StudyHandle
from schedsearch.study_setup import find_stored_space, open_or_create
from schedsearch.task import find_untrusted_code, reference_of

DEFAULT_STORAGE = "sqlite:///studies.db"


@raises_in_python
def search(
    space: Mapping[str, Any] | Path | str | Space,
    *,
    task: type | Callable[..., Any] | None = None,
    trials: int | None = None,
    storage: str = DEFAULT_STORAGE,
    workers: int = 0,
    study: str | None = None,
    from_studies: Sequence[str | StudyView] = (),
    threads: int | None = None,
    lanes: int | None = None,
    device: str = "cpu",
) -> StudyView:
    """Create a study, or continue it, search, and return the study.

    It does what `schedsearch start` does. The same call continues an interrupted search, and one
    with more trials adds trials. Ctrl-C stops after the epoch.

    Args:
        space: the file of a space, its content as a dict, or a loaded space. In a dict, `task` may
            be the class or the function itself; a dict without a name has that of the task.
        task: the class or the function, instead of that of the space.
        trials: the study's total, trial 0 included; None: that of the space.
        storage: the URL of the database.
        workers: how many processes train; 0: this one. A task of a notebook trains in this one.
        study: the study's name; None: that of the space.
        from_studies: earlier studies to begin from, by name, or as objects, which may be in another
            database. Their best plans are tried first.
        threads: torch's threads of each worker; None measures the best number.
        lanes: runs in one batched step of a worker; None measures the best number.
        device: where to train, as torch names it.

    Raises:
        InputError: the space, the task or an option is invalid.
        StudyError: the study exists with other settings, or its task changed.
        SchedSearchError: the search ended without a complete trial, or a worker failed.
    """
    content, file = _content_of(space)
    given = content.get("task") if task is None else task
    if given is not None and not isinstance(given, str):
        content["task"] = reference_of(given)
    content.setdefault("name", str(content.get("task", "")).rpartition(":")[2].lower())
    overrides = {"search.trials": trials, "name": study}
    prepared_space = space_from_content(
        content, file, overrides, partial(find_stored_space, storage)
    )
    if isinstance(space, Path | str | Space) and (given is None or isinstance(given, str)):
        _require_trust(prepared_space.task)
    refuse_live_task(prepared_space.task, workers)
    prepared = prepare_space(prepared_space, file)
    options = ComputeOptions(device=device, threads=threads, workers=max(1, workers), lanes=lanes)
    read = partial(read_from, prepared.space, storage, _earlier(from_studies))
    beginning = read()
    with Progress("trials", in_python) as display:
        for line in cut_phase_warnings(prepared_space):
            display.say(f"warning: {line}")
        handle = open_or_create(prepared, storage, options, display.say)
        if beginning.is_outdated(handle):
            beginning = read()
        kept = handle.queue.budget().trials
        if trials is not None and kept is not None and trials < kept:
            display.say(
                f"warning: trials is {trials}, but study {handle.name} has {kept} trials already "
                "and keeps them: the number can only be raised"
            )
        handle = begin_from(handle, beginning, display.say)
        _search(handle, display, workers)
    return StudyView(handle)


def _content_of(space: Mapping[str, Any] | Path | str | Space) -> tuple[dict[str, Any], str]:
    """Return the content of a space as a new dict, and how messages name it."""
    if isinstance(space, Space):
        content = space.document.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        return {**content, "schedule_version": space.schedule_version}, f"space {space.name}"
    if isinstance(space, Mapping):
        return copy.deepcopy(dict(space)), "the space"
    path = Path(space)
    return {"name": path.stem, **read_document(path)}, str(path)


def _earlier(from_studies: Sequence[str | StudyView]) -> list[str | StudyHandle]:
    """Return earlier studies by name or as handles; a single one may be given without a list."""
    if isinstance(from_studies, str | StudyView):
        from_studies = [from_studies]
    return [study if isinstance(study, str) else study._study for study in from_studies]


def _require_trust(reference: str) -> None:
    """Refuse code of a file's task that is neither built in nor under the current folder."""
    if (path := find_untrusted_code(reference)) is not None:
        raise InputError(
            f"task {reference!r} runs code of {path}, which is not under the current folder: "
            "import the task and give it as `task`"
        )


def _search(study: StudyHandle, display: Progress, workers: int) -> None:
    refresh_dashboard(study, display.say)
    if not study.has_ended():
        with study.unless_deleted():
            interrupted = train(
                study,
                display,
                lambda: display.show(read_status(study)),
                workers,
                DashboardArtifacts(study),
            )
            refresh_dashboard(study, display.say)
        if interrupted:
            display.say("stopped: the same call continues")
            return
    if (reason := without_value(study)) is not None:
        raise SchedSearchError(reason)
