"""Searches of schedules whose objective is a known function of the values over the run.

    python -m benchmarks.known_objectives [--searches 12] [--trials 80]

The objective is 0.05 (1 + q), with 3 % of noise. q adds the squared distances of the learning rate
(log10) from the best ones in the first epoch, the middle and the last, of the weights from the best
ones in the first epoch and the last, and of the arguments from the best ones. The result is the
median of q for the plan with the best observed value after 20, 40 and 80 trials: 0 is the best
possible plan.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from schedsearch.plan import Plan
from schedsearch.samplers.forecast import ForecastSampler
from schedsearch.space import Space
from schedsearch.storage.attributes import PLAN

HORIZON, _NOISE = 9, 0.03
_CHECKPOINTS = (20, 40, 80)

_RATE = {"low": 1e-3, "high": 1.0, "log": True}
_FINAL = {"low": 1e-5, "high": 1.0, "log": True}
_SHARE = {"low": 0.0, "high": 1.0}
_CONSTANT_RATE = {"constant": {"value": {"low": 1e-4, "high": 1.0, "log": True}}}
_RATES = _CONSTANT_RATE | {
    "exponential": {"initial": _RATE, "decay_rate": {"low": 0.01, "high": 0.5}},
    "linear": {"initial": _RATE, "final": _FINAL},
    "cosine": {"initial": _RATE, "final": _FINAL},
}
_WEIGHTS = {
    "constant": {"value": _SHARE},
    "linear": {"initial": _SHARE, "final": _SHARE},
    "cosine": {"initial": _SHARE, "final": _SHARE},
}
WEIGHT_NAMES = ("first", "second", "third")

SPACES: dict[str, dict[str, Any]] = {
    "schedules of one rate": {"hyperparameters": {"lr": {"default": 0.1, "families": _RATES}}},
    "schedules of a rate and three weights": {
        "hyperparameters": {
            "lr": {"default": 0.1, "families": _RATES},
            **{name: {"default": 0.5, "families": _WEIGHTS} for name in WEIGHT_NAMES},
        }
    },
    "a constant rate and four arguments": {
        "hyperparameters": {"lr": {"default": 0.1, "families": _CONSTANT_RATE}},
        "arguments": {
            "hidden": {"levels": [16, 32, 64, 128, 256]},
            "dropout": {"low": 0.0, "high": 0.5},
            "optimizer": {"levels": ["sgd", "adamw", "rmsprop"]},
            "batch_size": {"low": 16, "high": 512, "log": True},
        },
    },
}

SAMPLERS: dict[str, Callable[[Space, int], BaseSampler]] = {
    "random": lambda _, seed: RandomSampler(seed),
    "Optuna's TPE": lambda _, seed: TPESampler(seed=seed),
    "forecast": ForecastSampler,
}


def distance_of_values(values: Sequence[Mapping[str, float]]) -> float:
    """Return q of the values of the first epochs; each distance of a later epoch counts as 1.

    Args:
        values: the learning rate and the weights by epoch, from the first epoch on.
    """
    best = [(1.0, "lr", 0, -0.5), (0.5, "lr", HORIZON // 2, -1.0), (1.0, "lr", HORIZON - 1, -2.0)]
    for place, name in enumerate(WEIGHT_NAMES):
        if name in values[0]:
            best.append((1.5, name, 0, 0.1 + 0.3 * place))
            best.append((1.5, name, HORIZON - 1, 0.9 - 0.2 * place))
    return sum(
        factor * ((_position(name, values[epoch]) - target) ** 2 if epoch < len(values) else 1.0)
        for factor, name, epoch, target in best
    )


def _position(name: str, values: Mapping[str, float]) -> float:
    return math.log10(max(values[name], 1e-6)) if name == "lr" else values[name]


def distance(tables: Mapping[str, Any]) -> float:
    """Return q of a plan."""
    plan = Plan.from_tables(tables).resolve(HORIZON, 0)
    state, values = plan.start(), []
    for _ in range(HORIZON):
        values.append(plan.values(state))
        state = {name: {"epoch": one["epoch"] + 1} for name, one in state.items()}
    if "arguments" in tables:
        given = {name: table["value"] for name, table in tables["arguments"].items()}
        q: float = (
            (_position("lr", values[0]) + 1.7) ** 2
            + (math.log2(given["hidden"]) - 6) ** 2 / 8
            + 4 * (given["dropout"] - 0.2) ** 2
            + {"sgd": 0.5, "adamw": 0.0, "rmsprop": 0.2}[given["optimizer"]]
            + (math.log2(given["batch_size"]) - 6) ** 2 / 16
        )
        return q
    return distance_of_values(values)


def search(name: str, sampler: str, seed: int, trials: int) -> list[float]:
    """Return q of the plan with the best observed value after some numbers of trials."""
    document = {
        "name": "known",
        "task": "known:Task",
        "objective": {"metric": "loss", "direction": "minimize"},
        "horizon": HORIZON,
        **SPACES[name],
    }
    space = Space.from_document(document, name)
    study = optuna.create_study(sampler=SAMPLERS[sampler](space, seed))
    rng = np.random.default_rng((seed, 1))
    values, distances = [], []
    for _ in range(trials):
        trial = study.ask()
        tables = space.suggest_tables(trial)
        trial.set_user_attr(PLAN, tables)
        distances.append(distance(tables))
        values.append(0.05 * (1 + distances[-1]) * math.exp(_NOISE * rng.standard_normal()))
        for epoch in range(1, HORIZON + 1):
            trial.report(values[-1], epoch)
        study.tell(trial, values[-1])
    return [distances[int(np.argmin(values[:count]))] for count in _CHECKPOINTS if count <= trials]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=int, default=12)
    parser.add_argument("--trials", type=int, default=80)
    options = parser.parse_args()
    use_one_thread()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = []
    for name in SPACES:
        for sampler in SAMPLERS:
            seeds = range(options.searches)
            found = [search(name, sampler, seed, options.trials) for seed in seeds]
            rows.append([name, sampler, *(f"{q:.3f}" for q in np.median(found, axis=0))])
    print(describe_machine())
    counts = [str(count) for count in _CHECKPOINTS if count <= options.trials]
    print("\n".join(markdown_table(["space", "sampler", *counts], rows)))


if __name__ == "__main__":
    main()
