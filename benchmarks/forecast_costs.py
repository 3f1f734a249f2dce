"""The CPU time of the forecast by the number of stored trials: of a proposal, and of a verdict.

    python -m benchmarks.forecast_costs [--stored 100 1000]

A proposal is `ask` and the parameters of a plan of noisy_digits; a verdict is the pruner's answer
after an epoch, over all epochs of a run. Both include what the forecast fits, spread over the
calls. The study is in memory, with complete trials of made-up curves.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from schedsearch.plan import Plan
from schedsearch.pruners.forecast import ForecastPruner
from schedsearch.samplers.forecast import ForecastSampler
from schedsearch.space import Space
from schedsearch.space.document import PrunerOptions
from schedsearch.storage.attributes import PLAN

SPACE = Path(__file__).parent.parent / "search_spaces" / "noisy_digits.toml"


def end(study: optuna.Study, space: Space, rng: np.random.Generator) -> None:
    """Add a complete trial with a curve that falls to a value that its plan decides in part."""
    trial = study.ask()
    tables = space.suggest_tables(trial)
    trial.set_user_attr(PLAN, tables)
    plan = Plan.from_tables(tables).resolve(space.horizon, space.search.seed)
    values, _ = plan.evaluate(plan.start(), 0.0)
    level = 0.05 + 0.02 * abs(math.log(max(values.values()))) + 0.01 * rng.random()
    for epoch in range(1, space.horizon + 1):
        trial.report(level + 0.9 * math.exp(-5 * epoch / space.horizon), epoch)
    study.tell(trial, level)


def filled(space: Space, trials: int, rng: np.random.Generator) -> optuna.Study:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    for _ in range(trials):
        end(study, space, rng)
    return study


def proposal(space: Space, trials: int, proposals: int) -> float:
    """Return the mean milliseconds of a proposal; each trial ends at once."""
    rng = np.random.default_rng(0)
    study = filled(space, trials, rng)
    study.sampler = ForecastSampler(space, 0)
    end(study, space, rng)  # the first proposal reads the stored trials
    began = time.process_time()
    for _ in range(proposals):
        end(study, space, rng)
    spent = time.process_time() - began
    study.sampler = RandomSampler(seed=1)
    began = time.process_time()
    for _ in range(proposals):
        end(study, space, rng)
    return 1000 * (spent - (time.process_time() - began)) / proposals


def verdict(space: Space, trials: int, runs: int) -> float:
    """Return the mean milliseconds of a verdict over all epochs of a run."""
    rng = np.random.default_rng(0)
    study = filled(space, trials, rng)
    pruner = ForecastPruner(space)
    asked = [_running(trial) for trial in study.get_trials(deepcopy=False)[-runs:]]
    pruner.prune(study, _until(asked[0], space.horizon // 2))  # reads the stored trials
    began = time.process_time()
    for trial in asked:
        for epoch in range(1, space.horizon):
            pruner.prune(study, _until(trial, epoch))
    return 1000 * (time.process_time() - began) / runs / (space.horizon - 1)


def _running(trial: FrozenTrial) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        intermediate_values=trial.intermediate_values,
    )


def _until(trial: FrozenTrial, epoch: int) -> FrozenTrial:
    shown = _running(trial)
    shown.intermediate_values = {
        e: value for e, value in trial.intermediate_values.items() if e <= epoch
    }
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--proposals", type=int, default=200)
    parser.add_argument("--runs", type=int, default=40)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    use_one_thread()
    space = Space.load(SPACE)
    search = space.search.model_copy(update={"pruner": PrunerOptions(name="forecast")})
    space = space.model_copy(update={"search": search}) if hasattr(space, "model_copy") else space
    rows = [
        [
            f"{stored:,}",
            f"{proposal(space, stored, options.proposals):.2f}",
            f"{verdict(space, stored, options.runs):.2f}",
        ]
        for stored in options.stored
    ]
    print(f"{describe_machine()}: ms")
    print("\n".join(markdown_table(["complete trials", "proposal", "verdict"], rows)))


if __name__ == "__main__":
    main()
