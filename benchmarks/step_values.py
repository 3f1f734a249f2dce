"""Time of an epoch whose learning rate changes at each optimizer step, against once per epoch.

    python -m benchmarks.step_values [--lanes 32] [--epochs 3] [--repeats 40]

One compiled engine trains noisy_digits in all lanes, each with another cosine. The time includes
the values, their keys in the trajectory store, and the updates of the schedules.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.measurement import (
    describe_machine,
    markdown_table,
    measure_alternating,
    use_one_thread,
)
from schedsearch.engines import Engine, EpochResult, make_engine
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Constant, Cosine, Interval, Schedule
from schedsearch.task import load_task
from schedsearch.tasks import BUILT_IN

_HORIZON = 60


class Search:
    """A run in each lane, whose learning rate changes at the given interval."""

    def __init__(self, engine: Engine, interval: Interval) -> None:
        self.engine, self.interval = engine, interval

    def seconds_per_epoch(self, epochs: int) -> float:
        """Return the seconds of an epoch of new runs, without the time to fill the lanes."""
        lanes = range(self.engine.lanes)
        schedulers = [Scheduler(self._plan(lane), horizon=_HORIZON) for lane in lanes]
        for lane in lanes:
            self.engine.fill(lane, seed=0)
        began = time.perf_counter()
        for _ in range(epochs):
            values = [scheduler.epoch_values for scheduler in schedulers]
            for lane_values in values:
                self.engine.key(lane_values, 0)
            results = self.engine.train_epoch(values)
            for scheduler, result in zip(schedulers, results, strict=True):
                assert isinstance(result, EpochResult)
                scheduler.step(result.metrics["val_error"], terms=result.terms)
        return (time.perf_counter() - began) / epochs

    def _plan(self, lane: int) -> Plan:
        schedules: dict[tuple[str, ...], Schedule] = {
            ("lr",): Cosine(initial=0.003 * (1 + lane / 100), final=1e-5),
            ("self_label_weight",): Constant(0.3),
        }
        return Plan(schedules, intervals={"lr": self.interval})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=40)
    options = parser.parse_args()
    use_one_thread()
    numerics = {"engine": "lanes", "lanes": options.lanes, "compiled": True}
    engine = make_engine(load_task(BUILT_IN["noisy_digits"]), horizon=_HORIZON, numerics=numerics)
    by_epoch, by_step = Search(engine, "epoch"), Search(engine, "step")
    by_step.seconds_per_epoch(1)  # compiles
    runs = {
        "by epoch": lambda: by_epoch.seconds_per_epoch(options.epochs),
        "by step": lambda: by_step.seconds_per_epoch(options.epochs),
    }
    held, moving = measure_alternating(runs, options.repeats)
    print(describe_machine())
    row = [f"{1e3 * held.median:.1f}", f"{1e3 * moving.median:.1f}", f"{moving.ratio_to(held):.2f}"]
    heads = [f"by epoch, {options.lanes} lanes, ms", "by step, ms", "ratio"]
    print("\n".join(markdown_table(heads, [row])))


if __name__ == "__main__":
    main()
