"""`schedsearch status`, `list` and `delete`: the studies of a storage."""

from __future__ import annotations

import json
import shutil
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from schedsearch.cli.app import AsJson, app
from schedsearch.cli.output import ask, echo, say
from schedsearch.cli.storage import (
    DEFAULT_STORAGE,
    Storage,
    Study,
    complete_study_name,
    database_at,
)
from schedsearch.errors import DamagedStudyError, InputError, StudyError
from schedsearch.printable import count_of, printable_line, shell_argument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schedsearch.report.status import Status
    from schedsearch.storage import Database, Purpose, StudyAttributes, StudyHandle


@app.command()
def status(
    study: Annotated[
        str | None,
        typer.Argument(
            help="Name of the study; optional if the storage has only one.",
            autocompletion=complete_study_name,
        ),
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Also plot the best value so far.")] = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Show a study: its trials, best schedule and best constant."""
    from schedsearch.report.status import read_status
    from schedsearch.report.status_text import summary_lines
    from schedsearch.storage import get_only_study, open_study

    database = database_at(storage)
    handle = get_only_study(database) if study is None else open_study(database, study)
    result = read_status(handle)
    echo(json.dumps(result.to_json()) if as_json else "\n".join(summary_lines(result)))
    if plot and not as_json:
        from schedsearch.report.optimization_history_text import optimization_history_lines

        for line in optimization_history_lines(handle, shutil.get_terminal_size().columns):
            echo(line)


@app.command(name="list")
def show_studies(
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """List the studies of a storage."""
    from schedsearch.report.follow_ups import follow_ups
    from schedsearch.report.status_text import best_line
    from schedsearch.storage import list_studies

    database = database_at(storage)
    handles, invalid = list_studies(database)
    statuses, unreadable = _statuses(handles)
    records, invalid_records = follow_ups(database)
    damaged = [*invalid, *unreadable, *invalid_records]
    if as_json:
        rows = [
            {
                "study": record.name,
                record.follows.purpose.attribute: record.follows.study,
                "runs": record.runs,
            }
            for record in records
        ]
        failures = [{"study": error.study, "damaged": str(error)} for error in damaged]
        echo(json.dumps([*(status.to_json() for status in statuses), *rows, *failures]))
    else:
        for status in statuses:
            ended = f"{status.counts.finished}/{status.total} trials"
            echo(f"{printable_line(status.study)}  {status.state}  {ended}  {best_line(status)}")
        for record in records:
            verdict = record.verdict or "no verdict yet"
            name, parent = printable_line(record.name), printable_line(record.follows.study)
            runs = f"{record.runs} of {count_of(record.total, 'run')}"
            echo(f"{name}  {record.follows.purpose.attribute} {parent}  {runs}  {verdict}")
        for error in damaged:
            echo(f"{printable_line(error.study)}  damaged")
    for error in damaged:
        say(f"warning: {error}; `schedsearch delete {shell_argument(error.study)}` deletes it")


def _statuses(handles: list[StudyHandle]) -> tuple[list[Status], list[DamagedStudyError]]:
    """Return the status of each study, and an error for each study that cannot be read."""
    from schedsearch.report.status import read_status

    statuses, damaged = [], []
    for handle in handles:
        try:
            statuses.append(read_status(handle))
        except DamagedStudyError as error:
            damaged.append(error)
    return statuses, damaged


@app.command()
def delete(
    study: Study,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Delete a study with its trials, pictures and fresh runs."""
    from schedsearch.storage import is_follow_up, load_study, open_study
    from schedsearch.storage.attributes import SPACE

    database = database_at(storage)
    found = database.read(lambda connection: load_study(connection, study))
    if found is None or not (SPACE in found or is_follow_up(found)):
        open_study(database, study)  # raises the error that says why it is no study to delete
    assert found is not None
    if (purpose := _purpose_of(found)) is not None:
        _delete_follow_up(database, found, purpose, yes=yes)
    else:
        _delete_search(database, found, yes=yes)


def _purpose_of(found: StudyAttributes) -> Purpose | None:
    """Return why a study follows another one, by its name and its attribute; None if neither."""
    from schedsearch.storage import FollowUp, Purpose

    for purpose in Purpose:
        if purpose.attribute in found and found.name.endswith(FollowUp("", purpose).name):
            return purpose
    return None


def _delete_follow_up(
    database: Database, found: StudyAttributes, purpose: Purpose, *, yes: bool
) -> None:
    from schedsearch.storage import FollowUp, TrialQueue, delete_study

    _refuse_in_training(database, [found])
    name, counts = found.name, TrialQueue(database, found.study_id).counts()
    runs = counts.complete + counts.pruned
    what = f"{purpose.noun} {printable_line(name)}"
    _confirm_deletion(f"{what} with its {runs} runs", yes=yes)
    delete_study(database, found.study_id)
    parent = printable_line(name.removesuffix(FollowUp("", purpose).name))
    say(f"deleted {what}; study {parent} keeps its result")


def _delete_search(database: Database, found: StudyAttributes, *, yes: bool) -> None:
    from schedsearch.report.dashboard_artifacts import linked_pictures
    from schedsearch.report.progress import spinner
    from schedsearch.storage import FollowUp, Purpose, TrialQueue, delete_study, load_study

    queue, name = TrialQueue(database, found.study_id), printable_line(found.name)
    children, runs = [], ""
    for purpose in Purpose:
        follower = FollowUp(found.name, purpose).name
        child = database.read(partial(load_study, name=follower))
        if child is not None and purpose.attribute in child:
            children.append(child)
            counts = TrialQueue(database, child.study_id).counts()
            runs += f" and the {counts.complete + counts.pruned} runs of its {purpose.noun}"
    _refuse_in_training(database, [found, *children])
    _confirm_deletion(f"study {name} with its {queue.counts().trials} trials{runs}", yes=yes)
    # The study last: if this is interrupted, the same command deletes the rest.
    with spinner(f"deleting study {name}"):
        pictures = linked_pictures(database, found.study_id)
        for study in (*children, found):
            delete_study(database, study.study_id)
        refused = _remove(database, pictures)
    if refused is not None:
        say(f"warning: the pictures of the study are not removed: {refused}")
    say(f"deleted study {' and '.join(printable_line(s.name) for s in (found, *children))}")


def _refuse_in_training(database: Database, studies: Sequence[StudyAttributes]) -> None:
    """Refuse to delete studies while a worker trains a trial of one of them."""
    from schedsearch.report.progress import spinner
    from schedsearch.storage import TrialQueue

    for study in studies:
        with spinner(f"waiting for heartbeats of the workers of study {study.name}"):
            running = TrialQueue(database, study.study_id).liveness.count_alive()
        if running:
            raise StudyError(
                f"study `{printable_line(study.name)}` is in training (trials running: {running}): "
                "stop its workers first; a worker that was killed counts as stopped after two "
                "minutes, or at once on its host"
            )


def _remove(database: Database, pictures: Sequence[str]) -> InputError | None:
    """Remove pictures; return the error if their folder is refused."""
    from schedsearch.report.dashboard_artifacts import remove_pictures

    try:
        remove_pictures(database, pictures)
    except InputError as error:
        return error
    return None


def _confirm_deletion(what: str, *, yes: bool) -> None:
    if yes:
        return
    try:
        if ask(f"Delete {what}?"):
            return
        exit_code = 1
    except typer.Abort:
        exit_code = 130
    except EOFError:
        raise InputError("no terminal to ask on: give --yes") from None
    say("nothing was deleted")
    raise typer.Exit(exit_code)
