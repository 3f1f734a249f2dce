"""`schedsearch status`, `list` and `delete`: the studies of a storage."""

from __future__ import annotations

import json
import shutil
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
    from schedsearch.storage import Database, StudyAttributes, StudyHandle


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
    from schedsearch.confirmation.study import confirmations
    from schedsearch.report.confirmation import verdict_line
    from schedsearch.report.status_text import best_line
    from schedsearch.storage import list_studies

    database = database_at(storage)
    handles, invalid = list_studies(database)
    statuses, unreadable = _statuses(handles)
    records, invalid_records = confirmations(database)
    damaged = [*invalid, *unreadable, *invalid_records]
    if as_json:
        rows = [
            {"study": record.name, "confirms": record.parent, "runs": record.runs}
            for record in records
        ]
        failures = [{"study": error.study, "damaged": str(error)} for error in damaged]
        echo(json.dumps([*(status.to_json() for status in statuses), *rows, *failures]))
    else:
        for status in statuses:
            ended = f"{status.counts.finished}/{status.total} trials"
            echo(f"{printable_line(status.study)}  {status.state}  {ended}  {best_line(status)}")
        for record in records:
            verdict = "no verdict yet" if record.result is None else verdict_line(record.result)
            name, parent = printable_line(record.name), printable_line(record.parent)
            runs = f"{record.runs} of {count_of(record.total, 'run')}"
            echo(f"{name}  confirms {parent}  {runs}  {verdict}")
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
    """Delete a study with its trials, pictures and confirm runs."""
    from schedsearch.storage import confirmation_name, load_study, open_study
    from schedsearch.storage.attributes import CONFIRMS, SPACE

    database = database_at(storage)
    found = database.read(lambda connection: load_study(connection, study))
    if found is None or not (SPACE in found or CONFIRMS in found):
        open_study(database, study)  # raises the error that says why it is no study to delete
    assert found is not None
    if CONFIRMS in found and found.name.endswith(confirmation_name("")):
        _delete_confirmation(database, found, yes=yes)
    else:
        _delete_search(database, found, yes=yes)


def _delete_confirmation(database: Database, found: StudyAttributes, *, yes: bool) -> None:
    from schedsearch.storage import TrialQueue, confirmation_name, delete_study

    _refuse_in_training(database, [found])
    name, counts = found.name, TrialQueue(database, found.study_id).counts()
    runs = counts.complete + counts.pruned
    _confirm_deletion(f"confirmation {printable_line(name)} with its {runs} runs", yes=yes)
    delete_study(database, found.study_id)
    parent = printable_line(name.removesuffix(confirmation_name("")))
    say(f"deleted confirmation {printable_line(name)}; study {parent} keeps its result")


def _delete_search(database: Database, found: StudyAttributes, *, yes: bool) -> None:
    from schedsearch.report.dashboard_artifacts import linked_pictures
    from schedsearch.report.progress import spinner
    from schedsearch.storage import TrialQueue, confirmation_name, delete_study, load_study
    from schedsearch.storage.attributes import CONFIRMS

    queue, name = TrialQueue(database, found.study_id), printable_line(found.name)
    child = database.read(lambda c: load_study(c, confirmation_name(found.name)))
    children = [] if child is None or CONFIRMS not in child else [child]
    _refuse_in_training(database, [found, *children])
    runs = ""
    if children:
        counts = TrialQueue(database, children[0].study_id).counts()
        runs = f" and the {counts.complete + counts.pruned} runs of its confirmation"
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
        with spinner(f"waiting for signs of life of the workers of study {study.name}"):
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
