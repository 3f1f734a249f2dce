"""Training the fresh runs of `confirm` and `explain` by workers."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from schedsearch.cli.output import say
from schedsearch.cli.worker_options import Place, PlaceOptions
from schedsearch.errors import InputError
from schedsearch.printable import count_of
from schedsearch.supervision import WorkerGroup, supervise

if TYPE_CHECKING:
    from schedsearch.confirmation.fresh_runs import FreshRuns
    from schedsearch.launchers.base import Launcher

RunTimeout: TypeAlias = Annotated[
    float | None, typer.Option(help="Seconds that an epoch may take before its run fails.")
]


def check_epoch_timeout(seconds: float | None) -> None:
    """Refuse an --epoch-timeout that is not positive."""
    if seconds is not None and seconds <= 0:
        raise InputError(f"--epoch-timeout is {seconds:g}, but must be greater than 0")


def worker_group(
    fresh: FreshRuns,
    place: PlaceOptions,
    launcher: Launcher,
    workers: int | None,
    no_reuse: bool,
) -> WorkerGroup:
    """Return the workers that a command starts; None: as many as the cores hold."""
    number = _default_workers(fresh, place) if workers is None else workers
    return WorkerGroup(launcher, number, place.timeout, reuse=not no_reuse)


def train(fresh: FreshRuns, group: WorkerGroup, again: str) -> None:
    """Train the missing runs; exit if there will be no result yet.

    Args:
        fresh: the runs.
        group: the workers.
        again: the command that judges the runs when they have ended.
    """
    from schedsearch.report.fresh_runs import draw_fresh_runs
    from schedsearch.report.progress import Progress

    recorded, total = fresh.recorded(), len(fresh.runs)
    if recorded == total:
        return
    if fresh.without_test is not None:
        say(f"warning: {fresh.without_test}")
    if others := fresh.others:
        _say_others(fresh, others)
    if group.number == 0:
        say(
            f"{total - recorded} runs are queued: train them with `schedsearch worker "
            f"{fresh.study.name}`, and then judge them with `{again}`"
        )
        raise typer.Exit
    with Progress("runs") as display:
        redraw = partial(draw_fresh_runs, display, fresh)
        redraw()
        with fresh.study.unless_deleted():
            done = supervise(fresh.study, group, display, redraw)
        redraw()
    recorded = fresh.recorded()
    if done.interrupted or (done.timed_out and recorded < total):
        say(f"stopped with {recorded} of {total} runs recorded: the same command continues")
        raise typer.Exit(130 if done.interrupted else 1)
    if done.exit_code:
        raise typer.Exit(done.exit_code)


def _say_others(fresh: FreshRuns, others: int) -> None:
    follows = fresh.study.follows
    assert follows is not None
    stay = "stays" if others == 1 else "stay"
    say(
        f"{count_of(others, 'queued run')} that this command does not compare {stay} in the "
        f"queue, since another `{follows.purpose}` or a worker of {fresh.study.name} is running: "
        "the workers train them too"
    )


def _default_workers(fresh: FreshRuns, place: PlaceOptions) -> int:
    """Return how many workers fill the cores, but no more than the missing runs need."""
    from schedsearch.cli.worker_count import workers_that_fit

    if place.on is Place.RAY:
        return 1
    numerics = fresh.study.record.numerics
    missing = len(fresh.runs) - fresh.recorded()
    needed = math.ceil(missing / int(numerics.get("lanes", 1)))
    return workers_that_fit(numerics, needed)
