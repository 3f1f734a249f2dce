"""The best schedules and constants, trained in full on fresh seeds, judged, and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schedsearch.confirmation.candidates import Candidate, candidates, few_constants
from schedsearch.confirmation.fresh import train_all
from schedsearch.confirmation.paired import fewest_seeds
from schedsearch.confirmation.record import Record, kept, open_record
from schedsearch.confirmation.runs import Job, Outcome, Recipe, StoppedError
from schedsearch.confirmation.verdicts import common_metric, contend, document
from schedsearch.errors import InputError
from schedsearch.space import Objective
from schedsearch.space.constant_coverage import constant_coverage_warnings
from schedsearch.storage import StudyHandle
from schedsearch.study_task import load_study_task
from schedsearch.training import fresh_seeds

#: Is told how many runs' worth of epochs is trained, how many runs are recorded, and of how many.
Progress = Callable[[float, int, int], None]


def confirm(
    study: StudyHandle,
    *,
    top: int,
    seeds: int,
    workers: int,
    reuse: bool = True,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """Train the best schedules and the best constants on fresh seeds, judge, and keep the result.

    The constants are the study's three best distinct ones and the default; all is trained on the
    same seeds, and compared in pairs by the metric on the test split. Where the task gives no such
    metric, by validation. A run that diverged counts as the worst of all that did not: the least
    that can be said against it. A plan that diverged more often than some constant is never called
    better than it. Each run is recorded as it ends (see `Record`), and none is trained twice.

    Args:
        study: whose trials.
        top: how many distinct schedules, best by the search's own value first.
        seeds: how many fresh seeds.
        workers: how many processes train.
        reuse: do not train again what epochs of other runs are known, and keep what is trained.
        progress: told how far the runs are, how many are recorded, and of how many.
        should_stop: asked now and then.

    Returns:
        The result, see `document`. The study keeps it, without the plans, as its attribute
        "confirmation".

    Raises:
        StudyError: no schedule is complete, or the task is not the one that the study searched.
        InputError: so few seeds could show nothing.
        StoppedError: asked to stop; what was trained is recorded.
        SchedSearchError: a run failed, or all diverged.
    """
    schedules, constants = candidates(study, top)
    if seeds < (least := fewest_seeds(len(schedules))):
        raise InputError(
            f"--seeds is {seeds}, but must be at least {least}: with fewer, none of "
            f"{len(schedules)} schedules could be told from luck"
        )
    load_study_task(study)
    fresh = fresh_seeds(study.space, seeds)
    # Seed by seed, since runs with the same seed share their data.
    wanted = [(candidate, seed) for seed in fresh for candidate in [*schedules, *constants]]
    recipe = Recipe(
        space=study.space.to_document(),
        numerics=study.record.numerics,
        fingerprint=study.record.fingerprint,
        storage=study.database.url if reuse else None,
    )
    record = open_record(study)
    outcomes = _outcomes(record, recipe, wanted, workers, progress, should_stop)
    result = _judge(schedules, constants, outcomes, study.space.objective, fresh)
    result["judged"] = _judged(study, seeds, schedules)
    result["looks"] = [seeds for seeds, _ in result["judged"]]
    result["coarse"] = [*constant_coverage_warnings(study.space), *few_constants(study)]
    record.keep(result)
    return result


def _judge(
    schedules: Sequence[Candidate],
    constants: Sequence[Candidate],
    outcomes: Sequence[Outcome],
    objective: Objective,
    seeds: range,
) -> dict[str, Any]:
    metric, values = common_metric(outcomes, objective.metric)
    chosen, count = [*schedules, *constants], len(schedules)
    runs = [values[i :: len(chosen)] for i in range(len(chosen))]
    contenders = contend(chosen, runs, objective)
    return document(contenders[:count], contenders[count:], objective, metric, seeds)


def _outcomes(
    record: Record,
    recipe: Recipe,
    wanted: Sequence[tuple[Candidate, int]],
    workers: int,
    progress: Progress,
    should_stop: Callable[[], bool],
) -> list[Outcome]:
    """Return the outcomes of the runs that are wanted; train and record those not known yet."""
    known, horizon = record.runs(), record.study.space.horizon
    missing = [pair for pair in wanted if (pair[0].plan, pair[1]) not in known]
    before = done = len(wanted) - len(missing)
    progress(before, before, len(wanted))

    def keep(ended: Mapping[int, Outcome]) -> None:
        nonlocal done
        for index, outcome in ended.items():
            candidate, seed = missing[index]
            record.add(candidate, seed, outcome)
            known[candidate.plan, seed] = outcome
        done += len(ended)

    try:
        train_all(
            recipe,
            [Job(candidate.plan.to_tables(), seed) for candidate, seed in missing],
            workers=workers,
            ended=keep,
            trained=lambda epochs: progress(before + epochs / horizon, done, len(wanted)),
            should_stop=should_stop,
        )
    except StoppedError:
        raise StoppedError(
            f"stopped with {done} of {len(wanted)} runs recorded: the same command goes on"
        ) from None
    return [known[candidate.plan, seed] for candidate, seed in wanted]


def _judged(study: StudyHandle, seeds: int, schedules: Sequence[Candidate]) -> list[Any]:
    """Return after how many seeds which trials were looked at, this time included."""
    before = (kept(study) or {}).get("judged", [])
    now = [seeds, sorted(c.number for c in schedules if c.number is not None)]
    return before if now in before else sorted([*before, now])
