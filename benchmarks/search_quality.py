"""The quality of a search by the number of its trials: several samplers on the same objectives.

    python -m benchmarks.search_quality [--seeds 60] [--trials 200] [--in-flight 1 32]

The objectives need no training. Each seed makes one for a shipped space: an offset for each family,
and a rugged bowl over the parameters, which interact. For parameters that all families share, the
minimum of the bowl depends on the family. The optimum is known, so the result is the regret: the
true value of the trial with the best observed value, minus the optimum. Observations are noisy.
After a first observation with more noise, the worse half of the trials is pruned.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from schedsearch.samplers.forecast import ForecastSampler
from schedsearch.samplers.parzen import NumericAxis, axis_of
from schedsearch.samplers.tpe import TreeParzenSampler
from schedsearch.space import Space
from schedsearch.storage.attributes import PLAN

SPACES = Path(__file__).parent.parent / "search_spaces"
NAMES = ("noisy_digits", "burgers", "registration", "vae", "two_losses")
NOISE, FIRST_NOISE = 0.03, 0.15


@dataclass(frozen=True)
class Landscape:
    """A fixed, random function over the parameters of a space; its minimum is known."""

    space: Space
    seed: int

    def _uniform(self, *key: str) -> float:
        return zlib.crc32("|".join((str(self.seed), *key)).encode()) / 2**32

    def value(self, trial: Trial) -> float:
        choices = {n: v for n, v in trial.params.items() if isinstance(v, str)}
        total = sum(self._uniform(n, v) / 2 for n, v in choices.items())
        apart = {
            name: float(place) - self._centre(name, choices)
            for name, place in self._places(trial.params, trial.distributions)
        }
        for name, x in apart.items():
            steepness = 0.5 + 1.5 * self._uniform(name, "steepness")
            total += steepness * x**2 + 0.02 * (1 - math.cos(8 * math.pi * x))
        for (a, x), (b, y) in itertools.combinations(apart.items(), 2):
            # Weak against the steepness of at least 0.5, so that the minimum hardly moves.
            total += (2 * self._uniform(a, b) - 1) * x * y / len(apart)
        return total

    def _centre(self, name: str, choices: Mapping[str, str]) -> float:
        shifts = sum(self._uniform(name, *choice) - 0.5 for choice in choices.items())
        return min(max(0.15 + 0.7 * self._uniform(name) + 0.3 * shifts, 0.1), 0.9)

    @staticmethod
    def _places(
        params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
    ) -> Iterator[tuple[str, float]]:
        for name, distribution in distributions.items():
            if not isinstance(distribution, CategoricalDistribution):
                numbers = axis_of(distribution)
                assert isinstance(numbers, NumericAxis)
                yield name, float(numbers.to_unit(np.asarray(float(params[name]))))

    def optimum(self) -> float:
        """Return a lower bound, which is attained if no parameter is an integer or stepped."""
        return sum(
            min(self._uniform(f"{name}.family", option) / 2 for option in families.options)
            for name, families in self.space.searched().items()
            if len(families.options) > 1
        )


class SharedFit(BaseSampler):
    """Shows a sampler the trials as of the last multiple of `batch` trials."""

    def __init__(self, inner: BaseSampler, batch: int) -> None:
        self._inner, self._batch = inner, batch
        self.directions = [optuna.study.StudyDirection.MINIMIZE]
        self._trials: list[FrozenTrial] = []
        self._block = -1

    def get_trials(self, deepcopy: bool) -> list[FrozenTrial]:
        return self._trials

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        if trial.number // self._batch > self._block:
            self._block = trial.number // self._batch
            self._trials = study.get_trials(deepcopy=False)[:-1]
        view = cast("optuna.Study", self)
        return self._inner.sample_independent(view, trial, name, distribution)


ARMS: dict[str, Callable[[Space, int], BaseSampler]] = {
    "random": lambda _, seed: RandomSampler(seed),
    "stock": lambda _, seed: TPESampler(seed=seed, group=True, constant_liar=True),
    "forecast": ForecastSampler,
    "ours": lambda _, seed: TreeParzenSampler(seed),
    "ours, 50 kept": lambda _, seed: TreeParzenSampler(seed, max_above=50),
    "ours, 200 kept": lambda _, seed: TreeParzenSampler(seed, max_above=200),
    "ours, all kept": lambda _, seed: TreeParzenSampler(seed, max_above=sys.maxsize),
    "ours, shared by 32": lambda _, seed: SharedFit(TreeParzenSampler(seed), 32),
}


def search(arm: str, seed: int, trials: int, in_flight: int) -> list[float]:
    """Return the regret after each finished trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    space = Space.load(SPACES / f"{NAMES[seed % len(NAMES)]}.toml")
    landscape = Landscape(space, seed)
    study = optuna.create_study(sampler=ARMS[arm](space, seed))
    running: deque[tuple[Trial, float]] = deque()
    firsts: list[float] = []
    best, regrets = math.inf, []
    for number in range(trials + in_flight - 1):
        if number < trials:
            trial = study.ask()
            trial.set_user_attr(PLAN, space.suggest_tables(trial))
            running.append((trial, landscape.value(trial)))
        if number < in_flight - 1:
            continue
        trial, value = running.popleft()
        noise = np.random.default_rng((seed, trial.number)).standard_normal(2)
        firsts.append(value + FIRST_NOISE * noise[0])
        trial.report(firsts[-1], 1)
        if len(firsts) > 10 and firsts[-1] > statistics.median(firsts):
            study.tell(trial, state=TrialState.PRUNED)
        else:
            seen = value + NOISE * noise[1]
            study.tell(trial, seen)
            if seen < best:
                best, regret = seen, value - landscape.optimum()
        regrets.append(regret)
    return regrets


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean and the half-width of its 95 % interval."""
    return statistics.mean(values), 1.96 * statistics.stdev(values) / math.sqrt(len(values))


def _search(job: tuple[str, int, int, int]) -> list[float]:
    return search(*job)


def compare(arms: list[str], options: argparse.Namespace, in_flight: int) -> dict[str, Any]:
    """Run every sampler on the same seeds; print and return the regrets and their differences.

    Differences are to the first sampler, seed by seed: after the last trial, and in the mean over
    all numbers of trials.
    """
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    jobs = [(arm, seed, options.trials, in_flight) for seed in seeds for arm in arms]
    with Pool(options.processes) as pool:
        runs = dict(zip(jobs, pool.imap(_search, jobs), strict=True))
    marks = [options.trials // 4, options.trials // 2, options.trials]
    result: dict[str, Any] = {}
    print(f"\n{in_flight} in flight, {options.trials} trials, {len(seeds)} seeds: regret after")
    heads = [*(str(mark) for mark in marks), "less the first's", "in the mean"]
    print(" " * 20 + "".join(f"{head:>19}" for head in heads))
    for arm in arms:
        by_seed = [runs[arm, seed, options.trials, in_flight] for seed in seeds]
        base = [runs[arms[0], seed, options.trials, in_flight] for seed in seeds]
        after = [interval([run[mark - 1] for run in by_seed]) for mark in marks]
        pairs = list(zip(by_seed, base, strict=True))
        end = interval([mine[-1] - other[-1] for mine, other in pairs])
        whole = interval([statistics.mean(mine) - statistics.mean(other) for mine, other in pairs])
        result[arm] = {"regret": after, "less at the end": end, "less in the mean": whole}
        shown = "".join(f"{mean:10.4f} ± {half:.4f}" for mean, half in after)
        shown += "".join(f"{mean:+10.4f} ± {half:.4f}" for mean, half in (end, whole))
        print(f"{arm:20}{shown}", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=None)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    arms = options.arms or ["stock", *(arm for arm in ARMS if arm != "stock")]
    found = {str(flight): compare(arms, options, flight) for flight in options.in_flight}
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
