"""How many epochs a search requests, for each epoch that it trains.

    python -m benchmarks.reuse [--trials 150]

Searches: full grids of equal segments with a few values each, with 1 and 16 lanes; and noisy_digits
with plateau rules and steps for the learning rate, all with the same initial value, and with a few
levels or a continuous range for each parameter. Nothing is pruned.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from typing import Any

from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from schedsearch.engines import make_engine
from schedsearch.numerics import current_numerics
from schedsearch.preparation import prepare_space
from schedsearch.report.status import read_status
from schedsearch.space import Space
from schedsearch.storage import create_study, open_database
from schedsearch.trajectories import open_store
from schedsearch.trajectories.cached_runs import CachedRuns
from schedsearch.worker import Messages, ProcessControl, Worker

_START = 0.003


def document(horizon: int, families: Mapping[str, Any], **search: Any) -> dict[str, Any]:
    """Return a space with schedules for the learning rate of noisy_digits."""
    return {
        "name": "reuse",
        "task": "schedsearch.tasks.noisy_digits:NoisyDigits",
        "horizon": horizon,
        "objective": {"metric": "val_error"},
        "search": {"pruner": {"name": "none"}, **search},
        "hyperparameters": {"lr": {"default": _START, "families": dict(families)}},
    }


def grid(segments: int, values: int) -> dict[str, Any]:
    """Return a space of all plans with equal segments of two epochs."""
    levels = [_START * (1 + i) / 2 for i in range(values)]
    families = {
        "constant": {"value": {"levels": levels}},
        "piecewise": {"segments": segments, "values": {"levels": levels}},
    }
    return document(2 * segments, families, trials=10**6, sampler={"name": "grid"})


def rules(trials: int, *, levels: bool) -> dict[str, Any]:
    """Return a space of plateau rules and steps that all have the same initial value."""
    few = {
        "factor": {"levels": [0.2, 0.4, 0.6]},
        "patience": {"levels": [2, 4, 8]},
        "increment": {"levels": [-0.001, -0.0005, 0.001]},
        "step_size": {"levels": [10, 20, 30]},
    }
    many = {
        "factor": {"low": 0.1, "high": 0.9},
        "patience": {"low": 1, "high": 10},
        "increment": {"low": -0.001, "high": 0.002},
        "step_size": {"low": 5, "high": 40},
    }
    ranges: Mapping[str, Any] = few if levels else many
    initial = {"initial": _START}
    families = {
        "constant": {"value": _START},
        "reduce_on_plateau": initial | {k: ranges[k] for k in ("factor", "patience")},
        "increment_on_plateau": initial | {k: ranges[k] for k in ("increment", "patience")},
        "step": initial | {"decay_rate": ranges["factor"], "step_size": ranges["step_size"]},
    }
    return document(60, families, trials=trials, sampler={"name": "random"})


def measure(content: Mapping[str, Any], lanes: int) -> list[str]:
    """Search, and return how many epochs were requested and trained."""
    prepared = prepare_space(Space.from_document(content, "space"))
    numerics = current_numerics("sequential" if lanes == 1 else "lanes", lanes=lanes)
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{folder}/studies.db", create=True)
        study = create_study(database, prepared.record(numerics))
        engine = make_engine(prepared.task, horizon=prepared.space.horizon, numerics=numerics)
        Worker(
            study,
            [engine],
            name="benchmark",
            cached_runs=CachedRuns.of_study(study, open_store(database, print)),
            control=ProcessControl(lambda: False),
            messages=Messages(print, lambda line: None),
        ).run()
        status = read_status(study)
    ratio = status.epochs_requested / status.epochs_trained
    return [str(status.epochs_requested), str(status.epochs_trained), f"{ratio:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=150)
    options = parser.parse_args()
    use_one_thread()
    rows = []
    for segments, values in ((3, 3), (4, 3), (4, 5), (10, 2)):
        least = 2 * sum(values**i for i in range(1, segments + 1))
        for lanes in (1, 16):
            name = f"grid of {segments} segments, {values} values"
            found = measure(grid(segments, values), lanes)
            rows.append([name, str(lanes), *found, str(least)])
    for levels in (True, False):
        name = "rules, a few levels" if levels else "rules, continuous"
        rows.append([name, "16", *measure(rules(options.trials, levels=levels), 16), ""])
    print(describe_machine())
    heads = ["search", "lanes", "requested", "trained", "ratio", "minimum"]
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
