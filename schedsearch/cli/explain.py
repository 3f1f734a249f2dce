"""`schedsearch explain`: what of a plan matters, by variants of it on fresh seeds."""

from __future__ import annotations

import json
import time
from dataclasses import replace
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
    from schedsearch.explanation.explain import Explanation
    from schedsearch.storage import StudyHandle


@app.command()
@grouped
def explain(
    study: Study,
    place: PlaceOptions,
    trial: Annotated[
        int | None,
        typer.Option(
            help="Number of the trial. Default: the winner of `confirm`; if nothing won, the "
            "schedule with the best mean in it; without `confirm`, the best by validation.",
            show_default=False,
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="How much worse a simpler schedule may be. Default: a quarter of the gain over "
            "the best constants.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Fresh seeds for each variant: at least 8.")] = 20,
    workers: Annotated[
        int | None,
        typer.Option(
            help="How many workers to run; default: as many as the cores hold, or 1 with --on ray. "
            "0 only queues the runs, for `schedsearch worker STUDY:explain`.",
            min=0,
        ),
    ] = None,
    epoch_timeout: RunTimeout = None,
    no_reuse: NoReuse = False,
    trust_task: TrustTask = False,
    storage: Storage = DEFAULT_STORAGE,
    as_json: AsJson = False,
) -> None:
    """Explain a plan by variants of it on fresh seeds.

    Which schedule carries the gain over constants? Does it have to follow the training? Would a
    simpler schedule do? The command trains the plan and its variants, in three stages, and
    compares them pairwise by seed, with Holm's correction over all comparisons. Each run is a
    trial of the study STUDY:explain. As many processes train a run as train a trial of the study.
    After Ctrl-C or --timeout the same command continues; with more --seeds it trains only the new
    runs.
    """
    from schedsearch.explanation.explain import prepare_explanation, train_stages
    from schedsearch.numerics import cores_of_worker
    from schedsearch.report.dashboard_artifacts import refresh_dashboard

    check_epoch_timeout(epoch_timeout)
    handle = study_at(storage, study)
    require_trust(handle.space.task, trusted=trust_task)
    threads = cores_of_worker(handle.record.numerics)
    deadline = None if place.timeout is None else time.monotonic() + place.timeout
    with (
        place.launcher(storage, threads, workers) as launcher,
        prepare_explanation(
            handle, seeds=seeds, trial=trial, margin=margin, epoch_timeout=epoch_timeout
        ) as explanation,
    ):
        again = f"schedsearch explain {handle.name} --trial {explanation.trial} --seeds {seeds}"
        again += "" if margin is None else f" --margin {margin}"

        def train_stage(stage: Explanation) -> None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            in_time = replace(place, timeout=left)
            train(stage, worker_group(stage, in_time, launcher, workers, no_reuse), again)

        result = train_stages(explanation, train_stage).judge()
    refresh_dashboard(handle, say)
    _print_result(handle, result, as_json=as_json)


def _print_result(handle: StudyHandle, result: dict[str, Any], *, as_json: bool) -> None:
    """Print the result, and say what to do next."""
    from schedsearch.report.explanation import explanation_lines

    if as_json:
        echo(json.dumps({"study": handle.name, **result}))
    else:
        echo("\n".join(explanation_lines(result)))
    say(f"`schedsearch plot {handle.name}/explanation -o explanation.png` draws it")
    if result["simplest"] is not None:
        command = f"schedsearch export {handle.name} --simplest -o simple.toml"
        say(f"`{command}` exports the simpler plan")
