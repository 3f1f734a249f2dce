"""The quality of a search after a fixed number of epochs, by lanes or by seeds per trial.

    python -m benchmarks.equal_epochs lanes 1 8 32 [--searches 10] [--epochs 6000]
    python -m benchmarks.equal_epochs seeds 1 2 3 5

With many lanes, proposals are made before the other running trials have ended. With many seeds,
fewer plans are tried, and the value of each is more certain. Searches of noisy_digits with the same
search seeds end after the same number of run-epochs. Then the best schedule by validation is
trained on fresh seeds; its mean test error is the result.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys

from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from benchmarks.search import (
    choose_search_numerics,
    fresh_test_metrics,
    prepare_search,
    start_search,
)
from schedsearch.engines import Engine, make_engine
from schedsearch.plan import Plan
from schedsearch.storage import plan_of

#: More trials than any search reaches: the number of epochs ends it.
_TRIALS = 5_000
_FRESH = 16
_LANES = 32


def best_plan(engine: Engine, seeds: int, search_seed: int, epochs: int) -> Plan:
    """Search for a number of run-epochs, and return the best plan by validation."""
    given = prepare_search("noisy_digits", trials=_TRIALS, seed=search_seed, seeds=seeds)
    with start_search(given, engine.lanes, engine) as search:
        search.run(lambda: search.study.queue.counts().epochs * seeds >= epochs)
        return plan_of(search.study.complete_trials()[0])


def make_lanes_engine(lanes: int) -> Engine:
    """Return an engine that is compiled once for all searches."""
    given = prepare_search("noisy_digits")
    numerics, _ = choose_search_numerics(given, lanes)
    return make_engine(given.task, horizon=given.space.horizon, numerics=numerics)


def mean_with_interval(numbers: list[float]) -> str:
    """Return the mean in points and the half-width of its 95 % interval (normal)."""
    half = 1.96 * statistics.stdev(numbers) / math.sqrt(len(numbers))
    return f"{100 * statistics.fmean(numbers):.2f} ± {100 * half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("lanes", "seeds"))
    parser.add_argument("numbers", type=int, nargs="+")
    parser.add_argument("--searches", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=6_000)
    options = parser.parse_args()
    use_one_thread()
    errors: dict[int, list[float]] = {}
    for number in options.numbers:
        lanes, seeds = (
            (number, 1) if options.what == "lanes" else (_LANES // number * number, number)
        )
        plans, engine = [], make_lanes_engine(lanes)
        for search_seed in range(options.searches):
            plans.append(best_plan(engine, seeds, search_seed, options.epochs))
            print(f"{number} {options.what}, search {search_seed + 1}", file=sys.stderr, flush=True)
        errors[number] = fresh_test_metrics(
            prepare_search("noisy_digits"), make_lanes_engine(_LANES), plans, _FRESH
        )
    first = errors[options.numbers[0]]
    rows = [
        [
            str(number),
            mean_with_interval(found),
            mean_with_interval([a - b for a, b in zip(found, first, strict=True)]),
            f"{100 * max(found):.2f}",
        ]
        for number, found in errors.items()
    ]
    print(describe_machine())
    heads = [
        options.what,
        "test error, %",
        f"difference to {options.numbers[0]}, points",
        "worst, %",
    ]
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
