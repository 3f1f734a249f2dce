"""What a search finds within so many trained epochs, with more lanes, or more seeds per trial.

    python -m benchmarks.equal_epochs lanes 1 8 32 [--searches 10] [--epochs 6000]
    python -m benchmarks.equal_epochs seeds 1 2 3 5

With many lanes, proposals are drawn before the trials beside them have ended. With many seeds,
fewer plans are tried, and each is known better. Searches of noisy_digits from the same search seeds
end after the same number of run-epochs; then the schedule that is best by validation is trained on
fresh seeds, and its test error counts.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys

from benchmarks.measuring import machine, quiet, table
from benchmarks.searching import begun, numerics_of, prepared
from schedsearch.engines import Engine, make_engine
from schedsearch.plan import Plan
from schedsearch.run import Run
from schedsearch.storage import plan_of
from schedsearch.training import fresh_seeds, train_to_end

#: More trials than any search comes to: the epochs end it.
_TRIALS = 5_000
_FRESH = 16
_LANES = 32


def best_plan(engine: Engine, seeds: int, search_seed: int, epochs: int) -> Plan:
    """Search until so many run-epochs are trained, and return the best plan by validation."""
    given = prepared("noisy_digits", trials=_TRIALS, seed=search_seed, seeds=seeds)
    with begun(given, engine.lanes, engine) as search:
        search.run(lambda: search.study.queue.counts().epochs * seeds >= epochs)
        return plan_of(search.study.complete()[0])


def engine_of(lanes: int) -> Engine:
    """Return an engine, which is compiled once for all searches."""
    given = prepared("noisy_digits")
    numerics, _ = numerics_of(given, lanes)
    return make_engine(given.task, horizon=given.space.horizon, numerics=numerics)


def test_errors(plans: list[Plan]) -> list[float]:
    """Return each plan's mean test error over fresh seeds."""
    given, engine = prepared("noisy_digits"), engine_of(_LANES)
    jobs = [(plan, seed) for plan in plans for seed in fresh_seeds(given.space, _FRESH)]
    errors: list[float] = []
    for first in range(0, len(jobs), _LANES):
        runs = [
            Run(engine, space=given.space, plan=plan, seed=seed)
            for plan, seed in jobs[first : first + _LANES]
        ]
        train_to_end(runs)
        errors.extend(run.test()["test_error"] for run in runs)
        for run in runs:
            run.leave_lane()
    return [statistics.fmean(errors[i : i + _FRESH]) for i in range(0, len(errors), _FRESH)]


def with_interval(numbers: list[float]) -> str:
    """Return the mean in points with the half-width of its 95 % interval, by the normal law."""
    half = 1.96 * statistics.stdev(numbers) / math.sqrt(len(numbers))
    return f"{100 * statistics.fmean(numbers):.2f} ± {100 * half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("lanes", "seeds"))
    parser.add_argument("numbers", type=int, nargs="+")
    parser.add_argument("--searches", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=6_000)
    options = parser.parse_args()
    quiet()
    errors: dict[int, list[float]] = {}
    for number in options.numbers:
        lanes, seeds = (
            (number, 1) if options.what == "lanes" else (_LANES // number * number, number)
        )
        plans, engine = [], engine_of(lanes)
        for search_seed in range(options.searches):
            plans.append(best_plan(engine, seeds, search_seed, options.epochs))
            print(f"{number} {options.what}, search {search_seed + 1}", file=sys.stderr, flush=True)
        errors[number] = test_errors(plans)
    first = errors[options.numbers[0]]
    rows = [
        [
            str(number),
            with_interval(found),
            with_interval([a - b for a, b in zip(found, first, strict=True)]),
            f"{100 * max(found):.2f}",
        ]
        for number, found in errors.items()
    ]
    print(machine())
    heads = [
        options.what,
        "test error, %",
        f"difference to {options.numbers[0]}, points",
        "worst, %",
    ]
    print("\n".join(table(heads, rows)))


if __name__ == "__main__":
    main()
