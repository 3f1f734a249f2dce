"""`schedsearch confirm`: are the best schedules better on fresh seeds, on the test split?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schedsearch.cli.app import AsJson, NoReuse, app
from schedsearch.cli.option_groups import grouped
from schedsearch.cli.output import echo, say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, Study, study_at
from schedsearch.cli.supervision import Crew, supervise
from schedsearch.cli.trust import TrustTask, require_trust
from schedsearch.cli.worker_options import PlaceOptions

if TYPE_CHECKING:
    from schedsearch.confirmation.confirm import Confirmation
    from schedsearch.storage import StudyHandle


@app.command()
@grouped
def confirm(
    study: Study,
    place: PlaceOptions,
    top: Annotated[int, typer.Option(help="How many of the best schedules.", min=1, max=50)] = 5,
    seeds: Annotated[
        int,
        typer.Option(help="Fresh seeds for each plan: at least 8 for five schedules, 6 for one."),
    ] = 20,
    workers: Annotated[
        int | None,
        typer.Option(
            help="How many workers to run; default: as many as the cores hold. 0 only queues the "
            "runs, for `schedsearch worker STUDY:confirm`.",
            min=0,
        ),
    ] = None,
    epoch_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds that an epoch may take before its run fails.", min=0),
    ] = None,
    no_reuse: NoReuse = False,
    trust_task: TrustTask = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Train the best schedules and the best constants on fresh seeds, and compare them.

    A schedule is better if it beats the three best constants and the default on the test split,
    pairwise by seed, with Holm's correction. Each run is a trial of the study STUDY:confirm, which
    `schedsearch worker STUDY:confirm` trains too. After Ctrl-C or --timeout the same command
    continues, and one with more --seeds trains only what is new.
    """
    from schedsearch.confirmation.confirm import prepare_confirmation
    from schedsearch.report.confirmation import confirmation_lines
    from schedsearch.report.dashboard_artifacts import refresh_dashboard

    handle = study_at(storage, study)
    require_trust(handle.space.task, trusted=trust_task)
    _warn(handle)
    threads = int(handle.record.numerics["threads"])
    with place.launcher(storage, threads) as launcher:
        confirmation = prepare_confirmation(
            handle, top=top, seeds=seeds, epoch_timeout=epoch_timeout
        )
        number = _workers(threads) if workers is None else workers
        _train(confirmation, top, Crew(launcher, number, place.timeout, reuse=not no_reuse))
    result = confirmation.judge()
    refresh_dashboard(handle, say)
    if as_json:
        echo(json.dumps({"study": handle.name, **result}))
    else:
        echo("\n".join(confirmation_lines(result)))
    _say_next(handle, result)


def _train(confirmation: Confirmation, top: int, crew: Crew) -> None:
    """Train the missing runs; exit if there will be no result yet."""
    from schedsearch.report.progress import Progress

    recorded, total = confirmation.recorded(), len(confirmation.runs)
    if recorded == total:
        return
    name = confirmation.study.name
    if crew.number == 0:
        parent = confirmation.parent.name
        again = f"schedsearch confirm {parent} --top {top} --seeds {len(confirmation.seeds)}"
        say(
            f"{total - recorded} runs are queued: train them with `schedsearch worker {name}`, and "
            f"then judge them with `{again}`"
        )
        raise typer.Exit
    with Progress("runs") as display:

        def redraw() -> None:
            display.count(confirmation.recorded(), total)

        redraw()
        done = supervise(confirmation.study, crew, display.say, redraw)
        redraw()
    recorded = confirmation.recorded()
    if done.interrupted or (done.timed_out and recorded < total):
        say(f"stopped with {recorded} of {total} runs recorded: the same command continues")
        raise typer.Exit(130 if done.interrupted else 1)
    if done.exit_code:
        raise typer.Exit(done.exit_code)


def _workers(threads: int) -> int:
    """Return how many workers of so many threads fill the cores."""
    from schedsearch.preparation import available_cores

    return max(1, available_cores() // threads)


def _warn(handle: StudyHandle) -> None:
    from schedsearch.numerics import current_numerics_like, numerics_differences

    numerics = handle.record.numerics
    if other := numerics_differences(numerics, current_numerics_like(numerics)):
        say(f"warning: exact numbers differ from the search's: {'; '.join(other)}")


def _say_next(handle: StudyHandle, result: dict[str, Any]) -> None:
    from schedsearch.confirmation.verdicts import winner

    if not result["test"]:
        say("the task has no such metric on the test split: compared by validation on fresh seeds")
    number, export = winner(result), f"`schedsearch export {handle.name} -o best.toml`"
    if number is None:
        say(f"no schedule was found better than the constants: {export} exports the best of these")
    else:
        say(f"trial {number} is confirmed: {export}")
