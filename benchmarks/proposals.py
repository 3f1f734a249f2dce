"""The CPU time of a proposal by the number of stored trials: our TPE, Optuna's TPE, and random.

    python -m benchmarks.proposals [--stored 100 1000 10000]

A proposal is `ask` and the parameters of a plan of noisy_digits, for a study in memory, on one
thread. The random sampler shows the cost of Optuna's bookkeeping. Repeats alternate, so that other
load on the machine affects all equally.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from benchmarks.measurement import describe_machine, markdown_table, measure_alternating
from schedsearch.samplers.tpe import TreeParzenSampler
from schedsearch.space import Space

SPACE = Path(__file__).parent.parent / "search_spaces" / "noisy_digits.toml"

ARMS: dict[str, Callable[[], BaseSampler]] = {
    "ours": partial(TreeParzenSampler, seed=0),
    "Optuna's TPE": partial(TPESampler, seed=0, group=True, constant_liar=True),
    "random": partial(RandomSampler, seed=0),
}


def create_filled_study(space: Space, trials: int, sampler: BaseSampler) -> optuna.Study:
    """Return a study with random trials, two thirds of them pruned, and the given sampler."""
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    values = np.random.default_rng(0).random(trials).tolist()
    for i, value in enumerate(values):
        trial = study.ask()
        space.suggest_tables(trial)
        if i % 3:
            trial.report(value, 1)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)
    study.sampler = sampler
    return study


def milliseconds(space: Space, study: optuna.Study, proposals: int) -> float:
    """Return the mean CPU time of a proposal; each trial ends at once."""
    spent = 0.0
    for _ in range(proposals):
        began = time.process_time()
        trial = study.ask()
        space.suggest_tables(trial)
        spent += time.process_time() - began
        study.tell(trial, 0.5)
    return 1000 * spent / proposals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--proposals", type=int, default=20, help="in each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    space = Space.load(SPACE)
    rows, numbers = [], {}
    for trials in options.stored:
        studies = {name: create_filled_study(space, trials, make()) for name, make in ARMS.items()}
        for study in studies.values():
            milliseconds(space, study, 1)  # the first proposal reads the stored trials
        runs = {
            name: partial(milliseconds, space, study, options.proposals)
            for name, study in studies.items()
        }
        found = measure_alternating(runs, options.repeats)
        rows.append([f"{trials:,}", *(f"{one.median:.2f}" for one in found)])
        numbers[trials] = {one.name: one.numbers for one in found}
    print(f"{describe_machine()}: ms per proposal, medians of {options.repeats} repeats")
    print("\n".join(markdown_table(["stored trials", *ARMS], rows)))
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2))


if __name__ == "__main__":
    main()
