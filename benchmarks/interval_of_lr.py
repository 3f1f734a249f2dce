"""Random plans whose learning rate changes at each epoch, at each step, or not at all.

    python -m benchmarks.interval_of_lr helmholtz [--searches 10] [--plans 8] [--seeds 2]
    python -m benchmarks.interval_of_lr noisy_digits --arms epoch step constant

Each plan is drawn from the shipped space and trained with `lr` at both intervals, and in the arm
"constant" with a constant `lr` of the space instead, on the same seeds, side by side in lanes of
one compiled engine. Families that change at the end of epochs only are the same at both intervals,
and are left out. A search is the best of some plans by validation, in the mean over the seeds.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from benchmarks.search import SPACES, choose_search_numerics
from schedsearch.confirmation.paired import ALPHA, Paired
from schedsearch.engines import make_engine
from schedsearch.metric_names import metric_on_test
from schedsearch.plan import Plan
from schedsearch.preparation import PreparedSpace, load_space, prepare_space
from schedsearch.run import Run
from schedsearch.schedules import Constant
from schedsearch.space import Space
from schedsearch.space.suggesters import RandomSuggester
from schedsearch.training import train_to_end

#: Schedules of the learning rate for a space that ships with constants only.
_FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "noisy_digits": {
        "exponential": {
            "initial": {"low": 5e-4, "high": 1e-2, "log": True},
            "decay_rate": {"low": 0.9, "high": 1.0},
        },
        "cosine": {
            "initial": {"low": 5e-4, "high": 1e-2, "log": True},
            "final": {"low": 1e-5, "high": 5e-4, "log": True},
        },
        "warmup": {
            "duration": {"low": "1%", "high": "10%"},
            "inner": {
                "cosine": {"initial": {"low": 5e-4, "high": 1e-2, "log": True}, "final": 0.0}
            },
        },
    }
}
#: The arms, and how the table names them.
_ARMS = {"epoch": "by epoch", "step": "by step", "constant": "constant"}


@dataclass(frozen=True)
class DrawnPlan:
    """A random plan in three versions, by arm, and the family of its learning rate."""

    family: str
    versions: Mapping[str, Plan]


@dataclass(frozen=True)
class Score:
    """The means of a plan over its seeds."""

    validation: float
    test: float


def with_lr_families(space: Space) -> Space:
    """Return the space, with the schedules above if its learning rate has only constants."""
    content = space.to_document()
    families = content["hyperparameters"]["lr"]["families"]
    if set(families) == {"constant"}:
        families |= _FAMILIES[space.name]
    return Space.from_document(content, space.name)


def draw_plans(space: Space) -> Iterator[DrawnPlan]:
    """Yield random plans whose learning rate moves within an epoch at the interval "step"."""
    searched = with_lr_families(space)
    constants = searched.hyperparameters["lr"].options["constant"]
    for seed in count():
        by_epoch = replace(searched.suggest(RandomSuggester(seed)), intervals={})
        by_step = replace(by_epoch, intervals={"lr": "step"})
        if by_step.moving:
            constant = Constant(**constants.suggest(RandomSuggester(f"constant {seed}"), "lr"))
            without = replace(by_epoch, schedules={**by_epoch.schedules, ("lr",): constant})
            [family] = by_epoch.to_tables()["hyperparameters"]["lr"]["families"]
            versions = zip(_ARMS, (by_epoch, by_step, without), strict=True)
            yield DrawnPlan(family, dict(versions))


def train_all(given: PreparedSpace, plans: Sequence[Plan], seeds: int, lanes: int) -> list[Score]:
    """Train each plan on each seed, as many runs at a time as the engine has lanes."""
    space = given.space
    numerics, _ = choose_search_numerics(given, lanes)
    engine = make_engine(given.task, horizon=space.horizon, numerics=numerics)
    jobs = [(plan, seed) for plan in plans for seed in range(seeds)]
    errors: list[tuple[float, float]] = []
    for first in range(0, len(jobs), lanes):
        runs = [
            Run(engine, space=space, plan=plan, seed=seed)
            for plan, seed in jobs[first : first + lanes]
        ]
        train_to_end(runs)
        for run in runs:
            tested = run.test()[metric_on_test(space.objective.metric)]
            # A diverged run counts as an error of 100 %.
            errors.append((run.metric, tested) if math.isfinite(run.metric) else (1.0, 1.0))
            run.leave_lane()
        print(f"{space.name}: {len(errors)} of {len(jobs)} runs", file=sys.stderr, flush=True)
    by_plan = (errors[i : i + seeds] for i in range(0, len(errors), seeds))
    return [Score(*map(statistics.fmean, zip(*runs, strict=True))) for runs in by_plan]


def compare(task: str, options: argparse.Namespace) -> list[list[str]]:
    """Return the rows of a task: all plans by family, and the best of each search."""
    given = prepare_space(load_space(SPACES / f"{task}.toml", {}))
    drawn = [*islice(draw_plans(given.space), options.searches * options.plans)]
    arms = options.arms
    every = [plan.versions[arm] for plan in drawn for arm in arms]
    scores = train_all(given, every, options.seeds, options.lanes)
    by_arm = {arm: scores[i :: len(arms)] for i, arm in enumerate(arms)}
    rows = []
    for family in [*dict.fromkeys(sorted(plan.family for plan in drawn)), "all plans"]:
        chosen = [i for i, plan in enumerate(drawn) if family in ("all plans", plan.family)]
        errors = {arm: [found[i].test for i in chosen] for arm, found in by_arm.items()}
        rows.append([task, family, str(len(chosen)), *describe_errors(errors)])
    winners = {arm: best_of_each(found, options.plans) for arm, found in by_arm.items()}
    name = f"best of {options.plans} plans"
    rows.append([task, name, str(options.searches), *describe_errors(winners)])
    return rows


def best_of_each(scores: Sequence[Score], size: int) -> list[float]:
    """Return the test error of the best plan by validation, for each search of so many plans."""
    searches = (scores[i : i + size] for i in range(0, len(scores), size))
    return [min(search, key=lambda score: score.validation).test for search in searches]


def describe_errors(errors: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the mean of each arm in percent, and the ratio of each other arm to the first."""
    first, *others = errors.values()
    means = [f"{100 * statistics.fmean(found):.2f}" for found in errors.values()]
    return [*means, *(ratio(found, first) for found in others)]


def ratio(errors: Sequence[float], others: Sequence[float]) -> str:
    """Return the geometric mean of the paired ratios with its 95 % interval, by sign flips."""
    logs = Paired.of([*map(math.log, errors)], [*map(math.log, others)])
    low, high = map(math.exp, logs.interval(ALPHA))
    return (
        f"{math.exp(logs.mean):.3f} ({low:.3f} to {high:.3f}), "
        f"lower in {logs.wins}, higher in {logs.losses}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--arms", nargs="+", choices=_ARMS, default=["epoch", "step"])
    parser.add_argument("--searches", type=int, default=10)
    parser.add_argument("--plans", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--lanes", type=int, default=32)
    options = parser.parse_args()
    use_one_thread()
    rows = [row for task in options.tasks for row in compare(task, options)]
    print(describe_machine())
    first, *others = arms = [_ARMS[arm] for arm in options.arms]
    heads = ["task", "`lr`", "pairs", *(f"{arm}, test error, %" for arm in arms)]
    heads += [f"{arm} / {first} (95 %)" for arm in others]
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
