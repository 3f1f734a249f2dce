"""`schedsearch confirm`: are the best schedules better on fresh seeds, on the test split?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schedsearch.cli.app import AsJson, NoReuse, app
from schedsearch.cli.fresh_runs import RunTimeout, check_epoch_timeout, train, worker_group
from schedsearch.cli.option_groups import grouped
from schedsearch.cli.output import echo, say
from schedsearch.cli.storage import DEFAULT_STORAGE, Storage, Study, study_at
from schedsearch.cli.trust import TrustTask, require_trust
from schedsearch.cli.worker_options import PlaceOptions

if TYPE_CHECKING:
    from schedsearch.storage import StudyHandle


@app.command()
@grouped
def confirm(
    study: Study,
    place: PlaceOptions,
    top: Annotated[
        int, typer.Option(help="How many of the best schedules to compare.", min=1, max=50)
    ] = 5,
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
    epoch_timeout: RunTimeout = None,
    no_reuse: NoReuse = False,
    trust_task: TrustTask = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Compare the best schedules and constants on fresh seeds.

    The command trains them. A schedule is better if it beats the three best constants and the
    default on the test split, pairwise by seed, with Holm's correction. Each run is a trial of the
    study STUDY:confirm; `schedsearch worker STUDY:confirm` trains such runs too. As many processes
    train a run as train a trial of the study. After Ctrl-C or --timeout the same command continues;
    with more --seeds it trains only the new runs.
    """
    from schedsearch.confirmation.confirm import prepare_confirmation
    from schedsearch.numerics import cores_of_worker
    from schedsearch.report.dashboard_artifacts import refresh_dashboard

    check_epoch_timeout(epoch_timeout)
    handle = study_at(storage, study)
    require_trust(handle.space.task, trusted=trust_task)
    threads = cores_of_worker(handle.record.numerics)
    with (
        place.launcher(storage, threads, workers) as launcher,
        prepare_confirmation(
            handle, top=top, seeds=seeds, epoch_timeout=epoch_timeout
        ) as confirmation,
    ):
        again = f"schedsearch confirm {handle.name} --top {top} --seeds {seeds}"
        train(confirmation, worker_group(confirmation, place, launcher, workers, no_reuse), again)
    result = confirmation.judge()
    refresh_dashboard(handle, say)
    _print_result(handle, result, as_json=as_json)


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
