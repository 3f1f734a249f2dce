"""Searches of the shipped spaces after equal numbers of trained epochs, each method on its own.

    python -m benchmarks.real_searches noisy_digits=6000 smoothed_digits=4800 [--searches 24]

Every trial has one seed. A search ends when its trials have reported the given number of epochs,
those of the race included. Then the best plan of each search is trained on fresh seeds, and its
mean metric on the test split is the result. The methods:

- default: sampler and pruner `forecast`, and a race of the best plans on further seeds;
- no race: the same without the race;
- tpe, asha; random, none: other samplers and pruners, without a race;
- Optuna TPE: `TPESampler` with `SuccessiveHalvingPruner` and Optuna's settings, in Optuna's loop;
- Optuna GP: `GPSampler`, likewise without a pruner;
- pbt: segments with the range of the constants as the only schedules, with a race.

All train side by side in as many lanes. Differences are in pairs, to the first method. With
`--constants`, the best constant of each study is trained on the same fresh seeds as its winner.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from benchmarks.search import (
    SPACES,
    choose_search_numerics,
    fresh_test_values,
    start_search,
)
from schedsearch.confirmation.paired import Paired
from schedsearch.engines import Engine, make_engine
from schedsearch.errors import InputError
from schedsearch.plan import Plan
from schedsearch.preparation import PreparedSpace, load_space, prepare_space
from schedsearch.run import Run
from schedsearch.space import Space
from schedsearch.storage import plan_of
from schedsearch.training import train_epoch

#: More trials than any search reaches: the number of epochs ends it.
_TRIALS = 5_000
_FRESH = 16
#: The settings of [search] by dotted key.
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "no race": {"race.top": 0},
    "tpe, asha": {"sampler.name": "tpe", "pruner.name": "asha", "race.top": 0},
    "random, none": {"sampler.name": "random", "pruner.name": "none", "race.top": 0},
    "pbt": {"sampler.name": "pbt", "pruner.name": "asha"},
}
_OPTUNA: Mapping[str, Callable[[int], optuna.Study]] = {
    "Optuna TPE": lambda seed: optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.SuccessiveHalvingPruner(),
    ),
    "Optuna GP": lambda seed: optuna.create_study(
        sampler=optuna.samplers.GPSampler(seed=seed), pruner=optuna.pruners.NopPruner()
    ),
}


def with_segments(space: Space, segments: int = 6) -> Space:
    """Return the space with segments over the range of the constants as its only schedules."""
    content = space.to_document()
    for name in space.searched():
        given = content["hyperparameters"][name]["families"]
        values = given["constant"]["value"]
        given.clear()
        given |= {
            "constant": {"value": values},
            "piecewise": {"segments": segments, "values": values},
        }
    return Space.from_document(content, space.name)


def prepare(task: str, method: str, search_seed: int, epochs: int, seeds: int = 1) -> PreparedSpace:
    """Return a search of a task's shipped space with the settings of a method."""
    settings = {"trials": _TRIALS, "epochs": epochs, "seed": search_seed, "seeds": seeds}
    settings |= _SETTINGS.get(method, {})
    space = load_space(SPACES / f"{task}.toml", {f"search.{k}": v for k, v in settings.items()})
    return prepare_space(with_segments(space) if method == "pbt" else space)


def search(given: PreparedSpace, engine: Engine) -> tuple[Plan, Plan, int]:
    """Search until the budget is spent; return the best plan and constant, and the trials."""
    with start_search(given, engine.lanes, engine) as started:
        started.run()
        for lane in range(engine.lanes):
            engine.release(lane)
        study = started.study
        best, constant = (study.complete_trials(constant=kind)[0] for kind in (None, True))
        return plan_of(best), plan_of(constant), len(study.trials())


def search_with_optuna(
    study: optuna.Study, given: PreparedSpace, engine: Engine, epochs: int
) -> tuple[Plan, int]:
    """Search in Optuna's ask-and-tell loop; return the best plan, and the number of trials."""
    space, trained = given.space, 0
    trials: dict[Run, optuna.Trial] = {}
    plans: dict[int, Plan] = {}
    lanes = list(range(engine.lanes))
    while trained < epochs:
        while lanes:
            trial = study.ask()
            try:
                plan = Plan.from_tables(space.suggest_tables(trial))
                run = Run(engine, space=space, plan=plan, seed=space.search.seed)
            except InputError:
                study.tell(trial, state=TrialState.FAIL)
                continue
            run.enter_lane(lanes.pop())
            trials[run], plans[trial.number] = trial, plan
        for run, result in train_epoch(trials).items():
            trained += 1
            if isinstance(result, Exception):
                raise result
            run.record_epoch(result)
            if state := _state_after_epoch(trials[run], run):
                value = run.metric if state is TrialState.COMPLETE else None
                study.tell(trials.pop(run), value, state=state)
                assert run.lane is not None
                lanes.append(run.lane)
                run.leave_lane()
    for run in trials:
        run.leave_lane()
    return plans[study.best_trial.number], len(study.trials)


def _state_after_epoch(trial: optuna.Trial, run: Run) -> TrialState | None:
    """Report an epoch, and return the state in which the trial ends, if it ends."""
    if not math.isfinite(run.metric):
        return TrialState.FAIL
    trial.report(run.metric, run.epochs)
    if run.ended:
        return TrialState.COMPLETE
    return TrialState.PRUNED if trial.should_prune() else None


def compare(
    task: str, epochs: int, options: argparse.Namespace
) -> dict[str, tuple[list[float], list[int]]]:
    """Return the test metric and the number of trials of each search, by method."""
    given = prepare(task, "random, none", 0, epochs)
    numerics, _ = choose_search_numerics(given, options.lanes)
    engine = make_engine(given.task, horizon=given.space.horizon, numerics=numerics)
    found: dict[str, tuple[list[float], list[int]]] = {}
    for method in options.methods:
        searches, constants = [], []
        for seed in range(options.first, options.first + options.searches):
            if method in _OPTUNA:
                searches.append(search_with_optuna(_OPTUNA[method](seed), given, engine, epochs))
            else:
                best, constant, trials = search(prepare(task, method, seed, epochs), engine)
                searches.append((best, trials))
                constants.append(constant)
        values = fresh_test_values(given, engine, [plan for plan, _ in searches], _FRESH)
        if constants and options.constants:
            baseline = fresh_test_values(given, engine, constants, _FRESH)
            print(
                f"{task}, {method}, against the best constant: {against(values, baseline)}",
                flush=True,
            )
        metrics = [statistics.fmean(numbers) for numbers in values]
        found[method] = metrics, [trials for _, trials in searches]
        said = " ".join(f"{metric:.4f}" for metric in metrics)
        print(f"{task}, {method}: {said}", file=sys.stderr, flush=True)
        if options.json:
            with options.json.open("a") as file:
                print(json.dumps([task, epochs, method, metrics, found[method][1]]), file=file)
    return found


def against(winners: Sequence[Sequence[float]], constants: Sequence[Sequence[float]]) -> str:
    """Return how many winners are better and worse than constants, and all differences.

    A difference is that of the means over the same seeds, with its 95 % interval, see `Paired`.
    """
    differences, signs = [], []
    for winner, constant in zip(winners, constants, strict=True):
        paired = Paired.of(winner, constant)
        low, high = paired.interval(0.05)
        differences.append(f"{paired.mean:+.4f} ({low:+.4f} to {high:+.4f})")
        signs.append((low > 0) - (high < 0))
    better, equal, worse = (signs.count(sign) for sign in (-1, 0, 1))
    return f"{better} better, {equal} not told apart, {worse} worse: {', '.join(differences)}"


def interval(numbers: Sequence[float]) -> str:
    """Return the mean and the half-width of its 95 % interval (normal), if there are several."""
    if len(numbers) == 1:
        return f"{numbers[0]:.4f}"
    half = 1.96 * statistics.stdev(numbers) / math.sqrt(len(numbers))
    return f"{statistics.fmean(numbers):.4f} ± {half:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="+", metavar="TASK=EPOCHS")
    parser.add_argument("--methods", nargs="+", default=[*_SETTINGS, *_OPTUNA])
    parser.add_argument("--searches", type=int, default=24)
    parser.add_argument("--first", type=int, default=0, help="the number of the first search")
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--constants", action="store_true", help="train the best constants too")
    parser.add_argument("--json", type=Path, help="add a line for each task and method")
    options = parser.parse_args()
    use_one_thread()
    rows = []
    for task, _, epochs in (given.partition("=") for given in options.tasks):
        found = compare(task, int(epochs), options)
        first = found[options.methods[0]][0]
        for method, (metrics, trials) in found.items():
            row = [task, method, f"{statistics.fmean(trials):.0f}", interval(metrics)]
            row.append(interval([a - b for a, b in zip(metrics, first, strict=True)]))
            rows.append([*row, f"{max(metrics):.4f}"])
    print(describe_machine())
    heads = ["task", "sampler, pruner", "trials", "test metric"]
    heads += [f"difference to {options.methods[0]}", "worst search"]
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
