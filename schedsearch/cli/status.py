"""`schedsearch status`, `list` and `delete`: what a storage holds."""

from __future__ import annotations

import json
import shutil
from typing import Annotated

import typer

from schedsearch.cli.app import AsJson, app
from schedsearch.cli.output import say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, Study, database_at, study_names
from schedsearch.errors import StudyError


@app.command()
def status(
    study: Annotated[
        str | None,
        typer.Argument(
            help="The study's name; may be left out if there is only one.",
            autocompletion=study_names,
        ),
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Also draw the best value so far.")] = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Show how a study stands: its trials, the best schedule, and the best constant."""
    from schedsearch.report.status import read_status
    from schedsearch.report.status_text import summary_lines
    from schedsearch.storage import only_study, open_study

    opened = database_at(storage)
    handle = only_study(opened) if study is None else open_study(opened, study)
    found = read_status(handle)
    typer.echo(json.dumps(found.to_json()) if as_json else "\n".join(summary_lines(found)))
    if plot and not as_json:
        from schedsearch.report.optimization_history_text import optimization_history_lines

        for line in optimization_history_lines(handle, shutil.get_terminal_size().columns):
            typer.echo(line)


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
    from schedsearch.storage import every_study

    opened = database_at(storage)
    found = [read_status(handle) for handle in every_study(opened)]
    confirmed = confirmations(opened.optuna)
    if as_json:
        rows = [{"study": of.name, "confirms": of.parent, "runs": of.runs} for of in confirmed]
        typer.echo(json.dumps([*(status.to_json() for status in found), *rows]))
        return
    for status in found:
        ended = f"{status.counts.finished}/{status.total} trials"
        typer.echo(f"{status.study}  {status.state}  {ended}  {best_line(status)}")
    for of in confirmed:
        verdict = "not done yet" if of.result is None else verdict_line(of.result)
        typer.echo(f"{of.name}  confirms {of.parent}  {of.runs} runs  {verdict}")


@app.command()
def delete(
    study: Study,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Delete a study with all its trials, and with what `confirm` recorded of it."""
    from schedsearch.confirmation.study import confirmations
    from schedsearch.report.dashboard_artifacts import DashboardArtifacts
    from schedsearch.report.progress import spinner
    from schedsearch.storage import open_study

    opened = database_at(storage)
    confirmed = confirmations(opened.optuna)
    if own := next((of for of in confirmed if of.name == study), None):
        _confirm_deletion(f"confirmation {study} with its {own.runs} runs", yes=yes)
        opened.optuna.delete_study(own.study_id)
        say(f"deleted confirmation {study}: what study {own.parent} keeps of its result stays")
        return
    handle = open_study(opened, study)
    counts = handle.queue.counts()
    if alive := handle.queue.alive():
        raise StudyError(
            f"study `{study}` is in training, with {alive} of its trials: stop its "
            "workers first; one that was killed counts as silent after two minutes"
        )
    along = [of for of in confirmed if of.parent == study]
    runs = f" and the {sum(of.runs for of in along)} runs of its confirmation" if along else ""
    _confirm_deletion(f"study {study} with its {counts.chains} trials{runs}", yes=yes)
    # The study last: cut off between the two, the same command deletes the rest.
    showcase = DashboardArtifacts(handle)
    with spinner(f"deleting study {study}"):
        pictures = showcase.pictures()
        for study_id in [*(of.study_id for of in along), handle.study_id]:
            opened.optuna.delete_study(study_id)
        showcase.remove(pictures)
    say(f"deleted study {study}" + (f" and {', '.join(of.name for of in along)}" if along else ""))


def _confirm_deletion(what: str, *, yes: bool) -> None:
    if not yes:
        typer.confirm(f"Delete {what}?", abort=True, err=True)
