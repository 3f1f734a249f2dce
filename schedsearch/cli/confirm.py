"""`schedsearch confirm`: do the winners hold on fresh seeds, on the test split?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schedsearch.cli.app import AsJson, NoReuse, app
from schedsearch.cli.output import say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, Study, study_at
from schedsearch.cli.trust import TrustTask, require_trust

if TYPE_CHECKING:
    from schedsearch.storage import StudyHandle


@app.command()
def confirm(
    study: Study,
    top: Annotated[int, typer.Option(help="How many of the best schedules.", min=1, max=50)] = 5,
    seeds: Annotated[
        int,
        typer.Option(help="Fresh seeds for each plan: at least 8 for five schedules, 6 for one."),
    ] = 20,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that train; default: as many as the cores hold.", min=1),
    ] = None,
    no_reuse: NoReuse = False,
    trust_task: TrustTask = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Train the best schedules and the best constants on fresh seeds, and compare them.

    A schedule is better if it beats the three best constants and the default on the test split,
    pairwise by seed, with Holm's correction. Every run is recorded in the study STUDY:confirm as it
    ends: after Ctrl-C the same command goes on, and one with more --seeds trains only what is new.
    """
    from schedsearch.report.confirmation import confirmation_lines
    from schedsearch.report.dashboard_artifacts import refresh_dashboard

    handle = study_at(storage, study)
    require_trust(handle.space.task, trusted=trust_task)
    _warn(handle)
    result = _run(handle, top, seeds, workers or _workers(handle), reuse=not no_reuse)
    refresh_dashboard(handle, say)
    if as_json:
        typer.echo(json.dumps({"study": handle.name, **result}))
    else:
        typer.echo("\n".join(confirmation_lines(result)))
    _say_next(handle, result)


def _run(handle: StudyHandle, top: int, seeds: int, workers: int, *, reuse: bool) -> dict[str, Any]:
    from schedsearch.confirmation.confirm import confirm as run
    from schedsearch.confirmation.runs import StoppedError
    from schedsearch.report.progress import Progress
    from schedsearch.signals import stop_signals

    with stop_signals() as request, Progress("runs") as display:
        try:
            return run(
                handle,
                top=top,
                seeds=seeds,
                workers=workers,
                reuse=reuse,
                progress=lambda work, recorded, total: display.count(
                    work, total, f"{recorded} recorded"
                ),
                should_stop=lambda: bool(request),
            )
        except StoppedError as stopped:
            display.say(str(stopped))
            raise typer.Exit(130) from None


def _workers(handle: StudyHandle) -> int:
    """Return how many processes, each with the threads of the study's numerics, fill the cores."""
    from schedsearch.preparation import available_cores

    return max(1, available_cores() // int(handle.record.numerics["threads"]))


def _warn(handle: StudyHandle) -> None:
    from schedsearch.numerics import current_numerics_like, numerics_differences

    numerics = handle.record.numerics
    if other := numerics_differences(numerics, current_numerics_like(numerics)):
        say(f"warning: exact numbers differ from the search's: {'; '.join(other)}")


def _say_next(handle: StudyHandle, result: dict[str, Any]) -> None:
    from schedsearch.confirmation.verdicts import winner

    if not result["test"]:
        say("the task gives no such metric on the test split: compared by fresh-seed validation")
    number = winner(result)
    if number is None:
        best = result["baseline"]["number"]
        export = f"`schedsearch export {handle.name} --trial {best} -o best.toml` hands over"
        # The task's default may be the best without any trial that carries it.
        more = "" if best is None else f": {export} the best of these"
        say(f"no schedule was found better than the constants{more}")
    else:
        say(f"trial {number} is confirmed: `schedsearch export {handle.name} -o best.toml`")
