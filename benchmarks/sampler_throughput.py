"""What samplers and pruners cost the lanes: trained epochs per second of whole searches.

    python -m benchmarks.sampler_throughput [noisy_digits=36000] [--seeds 3] [--lanes 48]

One worker with a warm engine searches until its runs have trained the given number of epochs,
nothing from the cache. The methods are those of `real_searches`, in turn.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

from benchmarks.measurement import (
    describe_machine,
    markdown_table,
    measure_alternating,
    use_one_thread,
)
from benchmarks.real_searches import prepare
from benchmarks.search import choose_search_numerics, start_search
from schedsearch.engines import Engine, make_engine


def rate(task: str, method: str, epochs: int, seeds: int, engine: Engine) -> float:
    """Return the trained epochs per second of a search, from its start to its end."""
    given = prepare(task, method, 0, epochs, seeds)
    with start_search(given, engine.lanes, engine, reuse=False) as search:
        began = time.perf_counter()
        search.run()
        seconds = time.perf_counter() - began
        trained = search.study.queue.counts().epochs
    for lane in range(engine.lanes):
        engine.release(lane)
    return trained / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK=EPOCHS", default=["noisy_digits=36000"])
    methods = ["no race", "tpe, asha", "random, none"]
    parser.add_argument("--methods", nargs="+", default=methods)
    parser.add_argument("--seeds", type=int, default=3, help="runs per trial")
    parser.add_argument("--lanes", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    use_one_thread()
    rows = []
    for task, _, epochs in (text.partition("=") for text in options.tasks):
        given = prepare(task, "random, none", 0, int(epochs))
        numerics, _ = choose_search_numerics(given, options.lanes)
        engine = make_engine(given.task, horizon=given.space.horizon, numerics=numerics)
        rate(task, methods[-1], 20 * options.lanes, options.seeds, engine)  # compiles
        runs = {
            method: partial(rate, task, method, int(epochs), options.seeds, engine)
            for method in options.methods
        }
        found = measure_alternating(runs, options.repeats)
        rows += [
            [task, one.name, f"{one.median:.0f}", f"{one.ratio_to(found[-1]):.2f}"] for one in found
        ]
    print(describe_machine())
    heads = ["task", "sampler, pruner", "epochs /s", f"against {options.methods[-1]}"]
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
