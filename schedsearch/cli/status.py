"""`schedsearch status`, `list` and `delete`: what a storage holds."""

from __future__ import annotations

import json
import shutil
from typing import Annotated

import typer

from schedsearch.cli.app import DEFAULT_STORAGE, AsJson, Storage, StorageFile, app, say
from schedsearch.cli.opening import database
from schedsearch.errors import StudyError


@app.command()
def status(
    study: Annotated[
        str | None, typer.Argument(help="The study's name; may be left out if there is only one.")
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Also draw the best value so far.")] = False,
    storage: Storage = DEFAULT_STORAGE,
    storage_file: StorageFile = None,
    as_json: AsJson = False,
) -> None:
    """Show how a study stands: its trials, the best schedule, and the best constant."""
    from schedsearch.report.progress import summary_lines
    from schedsearch.report.status import read_status
    from schedsearch.storage import only_study, open_study

    opened = database(storage)
    handle = only_study(opened) if study is None else open_study(opened, study)
    found = read_status(handle)
    typer.echo(json.dumps(found.to_json()) if as_json else "\n".join(summary_lines(found)))
    if plot and not as_json:
        from schedsearch.report.course_text import course_lines

        for line in course_lines(handle, shutil.get_terminal_size().columns):
            typer.echo(line)


@app.command(name="list")
def list_studies(
    storage: Storage = DEFAULT_STORAGE,
    storage_file: StorageFile = None,
    as_json: AsJson = False,
) -> None:
    """List the studies of a storage."""
    from schedsearch.report.progress import comparison
    from schedsearch.report.status import read_status
    from schedsearch.storage import every_study

    found = [read_status(handle) for handle in every_study(database(storage))]
    if as_json:
        typer.echo(json.dumps([status.to_json() for status in found]))
        return
    for status in found:
        ended = f"{status.counts.finished}/{status.total} trials"
        typer.echo(f"{status.study}  {status.state}  {ended}  {comparison(status)}")


@app.command()
def delete(
    study: Annotated[str, typer.Argument(help="The study's name.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    storage: Storage = DEFAULT_STORAGE,
    storage_file: StorageFile = None,
) -> None:
    """Delete a study with all its trials."""
    from schedsearch.report.showcase import Showcase
    from schedsearch.storage import open_study

    opened = database(storage)
    handle = open_study(opened, study)
    handle.queue.hand_back_stale()
    counts = handle.queue.counts()
    if counts.running:
        raise StudyError(
            f"study `{study}` is in training, with {counts.running} of its trials: stop its "
            "workers first; one that was killed counts as silent after two minutes"
        )
    if not yes:
        typer.confirm(
            f"Delete study {study} with its {counts.chains} trials?", abort=True, err=True
        )
    showcase = Showcase(handle)
    pictures = showcase.pictures()
    opened.optuna.delete_study(handle.study_id)
    showcase.remove(pictures)
    say(f"deleted study {study}")
