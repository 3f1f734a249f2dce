"""`schedsearch status`, `list` and `delete`: the studies of a storage."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from schedsearch.cli.app import AsJson, app
from schedsearch.cli.output import ask, echo, say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, Study, database_at, study_names
from schedsearch.errors import InputError, StudyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schedsearch.report.dashboard_artifacts import DashboardArtifacts


@app.command()
def status(
    study: Annotated[
        str | None,
        typer.Argument(
            help="Name of the study; optional if the storage has only one.",
            autocompletion=study_names,
        ),
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Also plot the best value so far.")] = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Show the status of a study: its trials, the best schedule, and the best constant."""
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
def list_studies(
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """List the studies of a storage."""
    from schedsearch.confirmation.study import confirmations
    from schedsearch.report.confirmation import verdict_line
    from schedsearch.report.status import read_status
    from schedsearch.report.status_text import best_line
    from schedsearch.storage import list_studies

    database = database_at(storage)
    statuses = [read_status(handle) for handle in list_studies(database)]
    records = confirmations(database.optuna)
    if as_json:
        rows = [
            {"study": record.name, "confirms": record.parent, "runs": record.runs}
            for record in records
        ]
        echo(json.dumps([*(status.to_json() for status in statuses), *rows]))
        return
    for status in statuses:
        ended = f"{status.counts.finished}/{status.total} trials"
        echo(f"{status.study}  {status.state}  {ended}  {best_line(status)}")
    for record in records:
        verdict = "not finished" if record.result is None else verdict_line(record.result)
        echo(f"{record.name}  confirms {record.parent}  {record.runs} runs  {verdict}")


@app.command()
def delete(
    study: Study,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Delete a study with all its trials, its pictures, and the runs of `confirm`."""
    from schedsearch.confirmation.study import confirmations
    from schedsearch.report.dashboard_artifacts import DashboardArtifacts
    from schedsearch.report.progress import spinner
    from schedsearch.storage import open_study

    database = database_at(storage)
    records = confirmations(database.optuna)
    if confirmation := next((r for r in records if r.name == study), None):
        _confirm_deletion(f"confirmation {study} with its {confirmation.runs} runs", yes=yes)
        database.optuna.delete_study(confirmation.study_id)
        say(f"deleted confirmation {study}; study {confirmation.parent} keeps its result")
        return
    handle = open_study(database, study)
    counts = handle.queue.counts()
    if running := handle.queue.count_alive():
        raise StudyError(
            f"study `{study}` is in training (trials running: {running}): stop its workers first; "
            "a worker that was killed counts as stopped after two minutes"
        )
    children = [record for record in records if record.parent == study]
    run_count = sum(child.runs for child in children)
    runs = f" and the {run_count} runs of its confirmation" if children else ""
    _confirm_deletion(f"study {study} with its {counts.trials} trials{runs}", yes=yes)
    # The study last: if this is interrupted, the same command deletes the rest.
    artifacts = DashboardArtifacts(handle)
    with spinner(f"deleting study {study}"):
        pictures = artifacts.pictures()
        for study_id in [*(child.study_id for child in children), handle.study_id]:
            database.optuna.delete_study(study_id)
        refused = _remove(artifacts, pictures)
    if refused is not None:
        say(f"warning: the pictures of the study are not removed: {refused}")
    say(f"deleted study {' and '.join([study, *(child.name for child in children)])}")


def _remove(artifacts: DashboardArtifacts, pictures: Sequence[str]) -> InputError | None:
    """Remove pictures; return the error if their folder is refused."""
    try:
        artifacts.remove(pictures)
    except InputError as error:
        return error
    return None


def _confirm_deletion(what: str, *, yes: bool) -> None:
    if not yes:
        ask(f"Delete {what}?", abort=True)
