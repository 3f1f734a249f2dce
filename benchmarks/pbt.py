"""Population-based training against TPE and random search, after equal numbers of epochs.

    python -m benchmarks.pbt noisy_digits long_tail helmholtz [--searches 10] [--epochs 1440]

TPE and random search propose the families of the shipped space; pbt proposes segments with the
range of its constants. All use successive halving and the share of constants. A search ends when
its engine has trained the given number of epochs; cached epochs are free. Then the best plan by
validation is trained on fresh seeds; its mean test error is the result.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.equal_epochs import mean_with_interval
from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from benchmarks.search import SPACES, choose_search_numerics, start_search
from schedsearch.engines import Engine, EpochResult, Resumed, make_engine
from schedsearch.plan import Plan
from schedsearch.preparation import PreparedSpace, load_space, prepare_space
from schedsearch.run import Run
from schedsearch.space import Space
from schedsearch.storage import plan_of
from schedsearch.training import fresh_seeds, train_to_end

#: More trials than any search reaches: the number of epochs ends it.
_TRIALS = 5_000
_FRESH = 24
_SAMPLERS = ("tpe", "random", "pbt")


class CountingEngine:
    """An engine that counts the epochs that its lanes train."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.trained = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def train_epoch(self, values: Any) -> Sequence[EpochResult | Resumed | Exception | None]:
        """Train an epoch in each lane that has values."""
        results = self._engine.train_epoch(values)
        self.trained += sum(result is not None for result in results)
        return results


def with_segments(space: Space, segments: int) -> Space:
    """Return the space with segments over the range of the constants as its only schedules."""
    content = space.to_document()
    for name in space.searched():
        given = content["hyperparameters"][name]["families"]
        values = given["constant"]["value"]
        given.clear()
        given |= {
            "constant": {"value": values},
            "piecewise": {"segments": segments, "values": values},
        }
    return Space.from_document(content, space.name)


def prepare_sampler_search(
    task: str, sampler: str, search_seed: int, options: argparse.Namespace
) -> PreparedSpace:
    """Return a search of a task's shipped space with a sampler; pbt gets segments."""
    changes = {"trials": _TRIALS, "seed": search_seed, "seeds": options.seeds}
    space = load_space(SPACES / f"{task}.toml", {f"search.{key}": v for key, v in changes.items()})
    if sampler == "pbt":
        space = with_segments(space, options.segments)
    content = space.to_document()
    content["search"]["sampler"]["name"] = sampler
    return prepare_space(Space.from_document(content, task))


def best_plan(given: PreparedSpace, engine: Engine, epochs: int) -> tuple[Plan, int]:
    """Search for a number of trained epochs; return the best plan, and the number of trials."""
    counting: Any = CountingEngine(engine)
    with start_search(given, engine.lanes, counting) as search:
        search.run(lambda: counting.trained >= epochs)
        for lane in range(engine.lanes):
            engine.release(lane)
        return plan_of(search.study.complete_trials()[0]), len(search.study.trials())


def test_errors(given: PreparedSpace, engine: Engine, plans: list[Plan]) -> list[float]:
    """Return each plan's mean test error over fresh seeds."""
    space = given.space
    metric = f"test_{space.objective.metric.removeprefix('val_')}"
    jobs = [(plan, seed) for plan in plans for seed in fresh_seeds(space, _FRESH)]
    errors: list[float] = []
    for first in range(0, len(jobs), engine.lanes):
        runs = [
            Run(engine, space=space, plan=plan, seed=seed)
            for plan, seed in jobs[first : first + engine.lanes]
        ]
        train_to_end(runs)
        # A diverged run counts as an error of 100 %.
        errors.extend(run.test()[metric] if math.isfinite(run.metric) else 1.0 for run in runs)
        for run in runs:
            run.leave_lane()
    return [statistics.fmean(errors[i : i + _FRESH]) for i in range(0, len(errors), _FRESH)]


def compare_samplers(task: str, options: argparse.Namespace) -> list[list[str]]:
    """Return a row of the table for each sampler."""
    given = prepare_sampler_search(task, "tpe", 0, options)
    numerics, _ = choose_search_numerics(given, options.lanes)
    engine = make_engine(given.task, horizon=given.space.horizon, numerics=numerics)
    errors: dict[str, list[float]] = {}
    begun_trials: dict[str, list[int]] = {}
    for sampler in options.samplers:
        found = []
        for search_seed in range(options.searches):
            searched = prepare_sampler_search(task, sampler, search_seed, options)
            found.append(best_plan(searched, engine, options.epochs))
            said = f"{task}, {sampler}, search {search_seed + 1}: {found[-1][1]} trials"
            print(said, file=sys.stderr, flush=True)
        errors[sampler] = test_errors(given, engine, [plan for plan, _ in found])
        begun_trials[sampler] = [trials for _, trials in found]
        said = " ".join(f"{100 * error:.1f}" for error in errors[sampler])
        print(f"{task}, {sampler}: {said}", file=sys.stderr, flush=True)
    first = errors[options.samplers[0]]
    return [
        [
            task,
            sampler,
            f"{statistics.fmean(begun_trials[sampler]):.0f}",
            mean_with_interval(found),
            mean_with_interval([a - b for a, b in zip(found, first, strict=True)]),
            f"{100 * max(found):.2f}",
        ]
        for sampler, found in errors.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--samplers", nargs="+", default=_SAMPLERS, choices=_SAMPLERS)
    parser.add_argument("--searches", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=1_440)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--segments", type=int, default=6)
    parser.add_argument("--lanes", type=int, default=8)
    options = parser.parse_args()
    use_one_thread()
    rows = [row for task in options.tasks for row in compare_samplers(task, options)]
    print(describe_machine())
    heads = ["task", "sampler", "trials", "test error, %"]
    heads += [f"difference to {options.samplers[0]}, points", "worst search, %"]
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
