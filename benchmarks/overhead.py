"""The overhead of a search beside training and proposals.

    python -m benchmarks.overhead [--stored 100 10000] [--lanes 32]

The overhead is that of database, reports, pruning and bookkeeping. The engine trains nothing, and a
random sampler, which costs almost nothing, replaces TPE. Both searches write to a SQLite file that
already has many trials.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Mapping, Sequence
from functools import partial

import optuna

from benchmarks.measurement import (
    describe_machine,
    markdown_table,
    measure_alternating,
    use_one_thread,
)
from benchmarks.search import prepare_search, start_search
from benchmarks.stored_trials import store_trials
from schedsearch.engines import EpochResult, Snapshot
from schedsearch.preparation import PreparedSpace

#: New trials of each search, in addition to the stored ones.
_NEW = 200


class InstantEngine:
    """Trains nothing, and returns errors that fall at random."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self._random = random.Random(0)
        self._errors = [1.0] * lanes

    def fill(self, lane: int, seed: int, snapshot: Snapshot | None = None) -> None:
        self._errors[lane] = self._random.uniform(0.5, 1.0)

    def train_epoch(
        self, values: Sequence[Mapping[str, float] | None]
    ) -> list[EpochResult | Exception | None]:
        return [None if v is None else self._result(lane) for lane, v in enumerate(values)]

    def _result(self, lane: int) -> EpochResult:
        self._errors[lane] *= self._random.uniform(0.9, 1.0)
        error = self._errors[lane]
        return EpochResult({"val_error": error, "val_loss": error}, {"cross_entropy": error})

    def test(self, lane: int) -> dict[str, float]:
        return {}

    def snapshot(self, lane: int) -> Snapshot | None:
        return None

    def release(self, lane: int) -> None:
        pass

    def key(self, values: Mapping[str, float], seed: int) -> bytes:
        return b""


def measure_worker(given: PreparedSpace, stored: int, lanes: int) -> float:
    """Return the milliseconds per trial-epoch of a worker."""
    with start_search(given, 1, InstantEngine(lanes)) as search:
        store_trials(search.study, stored)
        before = search.study.queue.counts().epochs
        began = time.perf_counter()
        search.run()
        seconds = time.perf_counter() - began
        return 1e3 * seconds / (search.study.queue.counts().epochs - before)


def measure_optuna(given: PreparedSpace, stored: int) -> float:
    """Return the milliseconds per trial-epoch of `study.optimize` with the same search."""
    space = given.space
    with start_search(given, 1) as search:
        study = search.study
        store_trials(study, stored)
        plain = optuna.load_study(
            study_name=study.name,
            storage=study.database.url,
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=optuna.pruners.SuccessiveHalvingPruner(
                min_resource=space.search.pruner.min_epochs,
                reduction_factor=space.search.pruner.reduction_factor,
            ),
        )
        engine, epochs = InstantEngine(1), 0

        def objective(trial: optuna.Trial) -> float:
            nonlocal epochs
            space.suggest(trial)
            engine.fill(0, 0)
            error = math.nan
            for epoch in range(1, space.horizon + 1):
                [result] = engine.train_epoch([{}])
                assert isinstance(result, EpochResult)
                error, epochs = result.metrics["val_error"], epochs + 1
                trial.report(error, epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned
            return error

        began = time.perf_counter()
        plain.optimize(objective, n_trials=max(4, _NEW * 100 // max(stored, 400)))
        return 1e3 * (time.perf_counter() - began) / epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, nargs="*", default=[100, 10_000])
    parser.add_argument("--lanes", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    use_one_thread()
    rows = []
    for stored in options.stored:
        given = prepare_search(
            "noisy_digits", trials=1 + stored + _NEW, **{"sampler.name": "random"}
        )
        runs = {
            "ours": partial(measure_worker, given, stored, options.lanes),
            "Optuna": partial(measure_optuna, given, stored),
        }
        mine, theirs = measure_alternating(runs, options.repeats)
        ratio = f"{theirs.ratio_to(mine):.0f}"
        rows.append([f"{stored:,}", f"{mine.median:.3f}", f"{theirs.median:.1f}", ratio])
    print(describe_machine())
    heads = ["stored trials", f"ours, {options.lanes} lanes, ms", "plain Optuna, ms", "ratio"]
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
