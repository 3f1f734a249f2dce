"""`schedsearch confirm`: are the best schedules better on fresh seeds, on the test split?"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schedsearch.cli.app import AsJson, NoReuse, app
from schedsearch.cli.option_groups import grouped
from schedsearch.cli.output import echo, say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, Study, study_at
from schedsearch.cli.supervision import WorkerGroup, supervise
from schedsearch.cli.trust import TrustTask, require_trust
from schedsearch.cli.worker_options import Place, PlaceOptions
from schedsearch.errors import InputError
from schedsearch.printable import count_of

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
            help="How many workers to run; default: as many as the cores hold, or 1 with --on ray. "
            "0 only queues the runs, for `schedsearch worker STUDY:confirm`.",
            min=0,
        ),
    ] = None,
    epoch_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds that an epoch may take before its run fails."),
    ] = None,
    no_reuse: NoReuse = False,
    trust_task: TrustTask = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Compare the best schedules and constants on fresh seeds.

    The command trains them. A schedule is better if it beats the three best constants and the
    default on the test split, pairwise by seed, with Holm's correction. Each run is a trial of the
    study STUDY:confirm, which `schedsearch worker STUDY:confirm` trains too. After Ctrl-C or
    --timeout the same command continues, and one with more --seeds trains only what is new.
    """
    from schedsearch.confirmation.confirm import prepare_confirmation
    from schedsearch.numerics import cores_of_worker
    from schedsearch.report.dashboard_artifacts import refresh_dashboard

    if epoch_timeout is not None and epoch_timeout <= 0:
        raise InputError(f"--epoch-timeout is {epoch_timeout:g}, but must be greater than 0")
    handle = study_at(storage, study)
    require_trust(handle.space.task, trusted=trust_task)
    threads = cores_of_worker(handle.record.numerics)
    with (
        place.launcher(storage, threads) as launcher,
        prepare_confirmation(
            handle, top=top, seeds=seeds, epoch_timeout=epoch_timeout
        ) as confirmation,
    ):
        number = _default_workers(confirmation, place) if workers is None else workers
        group = WorkerGroup(launcher, number, place.timeout, reuse=not no_reuse)
        _train(confirmation, top, group)
    result = confirmation.judge()
    refresh_dashboard(handle, say)
    _print_result(handle, result, as_json=as_json)


def _train(confirmation: Confirmation, top: int, group: WorkerGroup) -> None:
    """Train the missing runs; exit if there will be no result yet."""
    from schedsearch.report.progress import Progress

    recorded, total = confirmation.recorded(), len(confirmation.runs)
    if recorded == total:
        return
    if confirmation.without_test is not None:
        say(f"warning: {confirmation.without_test}")
    if others := confirmation.others:
        stay = "stays" if others == 1 else "stay"
        say(
            f"{count_of(others, 'queued run')} that this command does not compare {stay} in the "
            "queue, since "
            f"another `confirm` or a worker of {confirmation.study.name} is running: the workers "
            "train them too"
        )
    if group.number == 0:
        _say_queued(confirmation, top, total - recorded)
        raise typer.Exit
    with Progress("runs") as display:

        def redraw() -> None:
            confirmation.call.renew()
            recorded, trained = confirmation.progress()
            share = f"{100 * trained / total:.0f} % of all epochs trained"
            display.count(recorded, total, share, worked=trained)

        redraw()
        with confirmation.study.unless_deleted():
            done = supervise(confirmation.study, group, display, redraw)
        redraw()
    recorded = confirmation.recorded()
    if done.interrupted or (done.timed_out and recorded < total):
        say(f"stopped with {recorded} of {total} runs recorded: the same command continues")
        raise typer.Exit(130 if done.interrupted else 1)
    if done.exit_code:
        raise typer.Exit(done.exit_code)


def _say_queued(confirmation: Confirmation, top: int, runs: int) -> None:
    """Say how to train runs that are only queued, and how to judge them."""
    parent, name = confirmation.parent.name, confirmation.study.name
    again = f"schedsearch confirm {parent} --top {top} --seeds {len(confirmation.seeds)}"
    say(
        f"{runs} runs are queued: train them with `schedsearch worker {name}`, and then judge them "
        f"with `{again}`"
    )


def _default_workers(confirmation: Confirmation, place: PlaceOptions) -> int:
    """Return how many workers fill the cores, but no more than the missing runs need."""
    from schedsearch.cores import available_cores
    from schedsearch.numerics import cores_of_worker

    if place.on is Place.RAY:
        return 1
    numerics = confirmation.study.record.numerics
    missing = len(confirmation.runs) - confirmation.recorded()
    needed = math.ceil(missing / int(numerics.get("lanes", 1)))
    return max(1, min(available_cores() // cores_of_worker(numerics), needed))


def _print_result(handle: StudyHandle, result: dict[str, Any], *, as_json: bool) -> None:
    """Print the result, and say what to do next."""
    from schedsearch.report.confirmation import confirmation_lines

    if as_json:
        echo(json.dumps({"study": handle.name, **result}))
    else:
        echo("\n".join(confirmation_lines(result)))
    if as_json and not result["test"]:  # otherwise the first line says it
        say("the runs have no such metric on the test split: compared by validation on fresh seeds")
    _say_next(handle, result)


def _say_next(handle: StudyHandle, result: dict[str, Any]) -> None:
    from schedsearch.confirmation.verdicts import winner

    number, export = winner(result), f"`schedsearch export {handle.name} -o best.toml`"
    if number is None:
        say(f"no schedule was found better than the constants: {export} exports the best of these")
    else:
        say(f"trial {number} is confirmed: {export}")
