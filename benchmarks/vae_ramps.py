"""Whether ramps of beta train a better variational autoencoder than constants.

    python -m benchmarks.vae_ramps [--seeds 16]

Constants and ramps of `weights.kl` on the task `vae`, each trained in full on the same fresh seeds.
Differences of the test bound, in nats, are in pairs, to the best constant.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from benchmarks.search import SPACES, choose_search_numerics
from schedsearch.engines import make_engine
from schedsearch.metric_names import metric_on_test
from schedsearch.plan import Plan
from schedsearch.preparation import load_space, prepare_space
from schedsearch.run import Run
from schedsearch.training import fresh_seeds, train_to_end

_CONSTANTS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25)
_FINALS = (0.8, 0.9, 1.0)


def _families() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield constants first, then ramps, each with its name."""
    for value in _CONSTANTS:
        yield f"constant {value:g}", {"constant": {"value": value}}
    for initial in (0.0, 0.5):
        for final in _FINALS:
            for duration in ("10%", "25%", "50%", "100%"):
                ramp = {"initial": initial, "final": final, "duration": duration}
                yield f"linear {initial:g} to {final:g} in {duration}", {"linear": ramp}
    for final in _FINALS[1:]:
        for midpoint in ("10%", "30%"):
            ramp = {"initial": 0.0, "final": final, "midpoint": midpoint, "width": "5%"}
            yield f"logistic 0 to {final:g} at {midpoint}", {"logistic_ramp": ramp}
    falling = {"initial": 1.5, "final": 1.0, "duration": "50%"}
    yield "linear 1.5 to 1 in 50%", {"linear": falling}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=16)
    options = parser.parse_args()
    use_one_thread()
    given = prepare_space(load_space(SPACES / "vae.toml", {}))
    numerics, _ = choose_search_numerics(given, options.seeds)
    engine = make_engine(given.task, horizon=given.space.horizon, numerics=numerics)
    metric = metric_on_test(given.space.objective.metric)
    found: dict[str, list[float]] = {}
    for name, families in _families():
        plan = Plan.from_tables({"hyperparameters": {"weights.kl": {"families": families}}})
        seeds = fresh_seeds(given.space, options.seeds)
        runs = [Run(engine, space=given.space, plan=plan, seed=seed) for seed in seeds]
        train_to_end(runs)
        found[name] = [run.test()[metric] for run in runs]
        for run in runs:
            run.leave_lane()
    means = {name: statistics.fmean(values) for name, values in found.items()}
    constants = [name for name in found if name.startswith("constant")]
    best = min(constants, key=means.__getitem__)
    rows = []
    for name in sorted(found, key=means.__getitem__):
        pairs = [a - b for a, b in zip(found[name], found[best], strict=True)]
        half = 1.96 * statistics.stdev(pairs) / math.sqrt(len(pairs))
        rows.append([name, f"{means[name]:.3f}", f"{statistics.fmean(pairs):+.3f} ± {half:.3f}"])
    print(describe_machine())
    heads = ["beta", "test bound, nats", f"difference to {best}"]
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
