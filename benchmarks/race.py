"""Random search with and without a race, on pools of plans that are trained in full.

    python -m benchmarks.race FOLDER --train noisy_digits smoothed_digits [--plans 128] [--seeds 12]
    python -m benchmarks.race FOLDER [--searches 400] [--budgets 20 40 80] [--shares 0.25]

With --train, random plans of shipped spaces are trained with several seeds, 15 % of them constants,
and FOLDER/TASK.npz gets `metric` (plans, seeds, epochs), the objective on the validation split, and
`tables` (plans,), the tables of each plan as JSON. Without it, each such file is searched at equal
numbers of full trainings:

- "one seed": as many plans as the budget has trainings, and the best of them by one seed;
- "race at the end" and "race from half on": the race takes its share of the budget.

Each search draws its plans and the order of the seeds. Its winner is judged by the mean over the
seeds that the search did not train. Files with too few seeds for that are left out. For TASK.npz,
the space TASK of search_spaces says which plans are constants.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from benchmarks.search import SPACES, choose_search_numerics
from schedsearch.confirmation.paired import ALPHA, Paired
from schedsearch.engines import make_engine
from schedsearch.plan import Plan
from schedsearch.preparation import load_space, prepare_space
from schedsearch.race.race import make_race
from schedsearch.run import Run
from schedsearch.space import Space
from schedsearch.space.suggesters import RandomSuggester
from schedsearch.storage import Budget, rank_plans
from schedsearch.storage.attributes import PLAN, SEED
from schedsearch.training import train_to_end

#: Seeds of the winner that no search trains: fewer do not judge it.
_FEWEST_JUDGING = 4
_CONSTANTS = 0.15
_ARMS = ("one seed", "race at the end", "race from half on")


@dataclass(frozen=True)
class Pool:
    """Plans that are trained in full, with the objective of each run, shape (plans, seeds)."""

    name: str
    space: Space
    tables: Sequence[Mapping[str, object]]
    errors: npt.NDArray[np.float64]


# --- training ------------------------------------------------------------------------------------


def draw_plans(space: Space, count: int) -> Iterator[Plan]:
    """Yield random plans of a space, the first of them constants."""
    constants = math.ceil(_CONSTANTS * count)
    drawn = 0
    for seed in range(1_000_000):
        plan = space.suggest(RandomSuggester(seed))
        if space.is_constant_plan(plan.to_tables()) == (drawn < constants):
            yield plan
            drawn += 1
        if drawn == count:
            return


def train_pool(task: str, folder: Path, options: argparse.Namespace) -> None:
    """Train random plans of a shipped space, and write the file of the pool."""
    given = prepare_space(load_space(SPACES / f"{task}.toml", {"search.seeds": 1}))
    numerics, _ = choose_search_numerics(given, options.lanes)
    engine = make_engine(given.task, horizon=given.space.horizon, numerics=numerics)
    plans = [*draw_plans(given.space, options.plans)]
    metric = np.full((len(plans), options.seeds, given.space.horizon), np.nan, np.float32)
    jobs = [(place, seed) for seed in range(options.seeds) for place in range(len(plans))]
    for first in range(0, len(jobs), options.lanes):
        chosen = jobs[first : first + options.lanes]
        runs = [Run(engine, space=given.space, plan=plans[place], seed=s) for place, s in chosen]
        train_to_end(runs)
        for run, (place, seed) in zip(runs, chosen, strict=True):
            curve = run.history.objective(given.space.objective.metric)
            metric[place, seed, : len(curve)] = curve
            run.leave_lane()
        print(f"{task}: {first + len(chosen)} of {len(jobs)} runs", file=sys.stderr, flush=True)
    tables = np.array([json.dumps(plan.to_tables()) for plan in plans])
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{task}.npz", metric=metric, tables=tables)


# --- searching -----------------------------------------------------------------------------------


def read_pool(file: Path, seeds: int) -> Pool | None:
    """Read a pool; return None if it has fewer seeds, or no space with its name is shipped."""
    content = np.load(file)
    path = SPACES / f"{file.stem}.toml"
    if content["metric"].shape[1] < seeds or "tables" not in content or not path.exists():
        return None
    space = load_space(path, {"search.seeds": 1})
    errors = content["metric"][:, :, -1].astype(np.float64)
    # A run that diverged counts as the worst of the others.
    errors[np.isnan(errors)] = np.nanmax(errors)
    return Pool(file.stem, space, [json.loads(text) for text in content["tables"]], errors)


def search(pool: Pool, arm: str, budget: int, share: float, rng: random.Random) -> float:
    """Return the error of the winner of a search, over the seeds that it did not train."""
    plans = rng.sample(range(len(pool.tables)), min(budget, len(pool.tables)))
    seeds = rng.sample(range(pool.errors.shape[1]), pool.errors.shape[1])
    document = pool.space.to_document()
    document["search"]["race"] = {"share": share, "top": 0 if arm == _ARMS[0] else 16}
    space = Space.from_document(document, pool.name)
    race, trials = make_race(space), list[FrozenTrial]()
    by_number: dict[int, int] = {}
    while len(trials) < budget:
        remaining = budget - len(trials)
        queued, sampled = [], remaining
        if race is not None:
            found = race.next_trials(
                lambda: trials,
                Budget(budget),
                remaining=remaining,
                is_half_spent=arm == _ARMS[2] and 2 * len(trials) >= budget,
            )
            queued, sampled = [*found.queued], found.sampled
        if not queued and sampled:
            queued = [{PLAN: pool.tables[plans[len(by_number)]]}]
        for attributes in queued:
            raced = attributes.get("raced", len(trials))
            place = by_number.setdefault(raced, plans[min(len(by_number), len(plans) - 1)])
            error = pool.errors[place, seeds[attributes.get(SEED, 0)]]
            trials.append(_trial(len(trials), attributes, error))
    best = rank_plans(space, trials)[0]
    unseen = [pool.errors[by_number[best.number], seed] for seed in seeds[best.seeds :]]
    return statistics.fmean(unseen)


def _trial(number: int, attributes: Mapping[str, object], error: float) -> FrozenTrial:
    trial = create_trial(state=TrialState.COMPLETE, value=error, user_attrs=dict(attributes))
    trial.number = number
    return trial


def compare(pool: Pool, budget: int, share: float, searches: int) -> list[str]:
    """Return the row of a pool: the mean error of each arm, and its difference to one seed."""
    found = {
        arm: [
            search(pool, arm, budget, share, random.Random(f"{budget} {seed}"))
            for seed in range(searches)
        ]
        for arm in _ARMS
    }
    cells = []
    for arm in _ARMS:
        mean, worst = statistics.fmean(found[arm]), np.quantile(found[arm], 0.95)
        cells.append(f"{mean:.4g} (95 %: {worst:.4g})")
    for arm in _ARMS[1:]:
        pairs = Paired.of(found[arm], found[_ARMS[0]])
        low, high = pairs.interval(ALPHA)
        cells.append(f"{pairs.mean:+.4g} ({low:+.4g} to {high:+.4g})")
    return [pool.name, str(budget), f"{share:g}", *cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", nargs="+", default=[], metavar="TASK")
    parser.add_argument("--plans", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--lanes", type=int, default=32)
    parser.add_argument("--searches", type=int, default=400)
    parser.add_argument("--budgets", nargs="+", type=int, default=[20, 40, 80])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.25])
    options = parser.parse_args()
    use_one_thread()
    for task in options.train:
        train_pool(task, options.folder, options)
    if options.train:
        return
    # A winner of the race has five seeds.
    pools = [read_pool(file, 5 + _FEWEST_JUDGING) for file in sorted(options.folder.glob("*.npz"))]
    rows = [
        compare(pool, budget, share, options.searches)
        for pool in pools
        if pool is not None
        for budget in options.budgets
        for share in options.shares
    ]
    heads = ["pool", "trainings", "share", *_ARMS, *(f"{arm} - one seed" for arm in _ARMS[1:])]
    print(describe_machine())
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
