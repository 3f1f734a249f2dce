"""Searches simulated on pools of whole training curves: which plan does each method choose?

    python -m benchmarks.simulated_searches [--orders 60] [--pools noisy_digits ...]

A simulated search proposes plans of the pool, one after another, reads their curves, and stops some
of them early. When it has used as many epochs as 10, 20, 40 and 80 full trainings, its choice is
the complete plan with the best value (one seed each). The regret of a choice is

    (mean over seeds of its final value - that of the best plan) / (median plan - best plan)

so 0 is the best plan of the pool, and 1 the median plan. Each order is a permutation of the plans
and a seed for each; all methods see the same orders, and are compared in pairs with random
proposals without pruning.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from schedsearch.forecast import PlanForecast, RunForecast
from schedsearch.samplers.forecast import DEVIATIONS

_POOLS = Path(__file__).parent / "pools"
_BUDGETS = (10, 20, 40, 80)
_CANDIDATES, _NEW = 24, 2
_RANDOM_SHARE = 0.15
_STARTUP = 8


@dataclass(frozen=True)
class Pool:
    """The curves of a pool, lower is better; a diverged run has the worst value of the pool."""

    name: str
    metric: np.ndarray
    values: np.ndarray

    @classmethod
    def load(cls, path: Path) -> Pool:
        with np.load(path) as arrays:
            metric = arrays["metric"].astype(float)
            values = arrays["values"].astype(float).mean(axis=1)
        return cls(path.stem, np.where(np.isfinite(metric), metric, np.nanmax(metric)), values)

    @property
    def horizon(self) -> int:
        return int(self.metric.shape[-1])

    def regret(self, plan: int) -> float:
        finals = self.metric[..., -1].mean(axis=1)
        best, median = finals.min(), np.median(finals)
        return float((finals[plan] - best) / (median - best))

    def paths(self, begin: int, end: int, count: int) -> np.ndarray:
        """Return the values in force at evenly spread epochs, shape (plans, count, names)."""
        width = (end - begin) / count
        return self.values[:, [int(begin + width * (i + 0.5)) for i in range(count)]]


class Search:
    """A simulated search: what was trained so far."""

    def __init__(self, pool: Pool, order: Sequence[int], seeds: Sequence[int], rng: int) -> None:
        self.pool, self.left = pool, list(order)
        self.curves = {plan: pool.metric[plan, seeds[plan]] for plan in order}
        self.rng = np.random.default_rng(rng)
        self.complete: list[int] = []
        self.epochs = 0

    @property
    def finals(self) -> np.ndarray:
        return np.array([self.curves[plan][-1] for plan in self.complete])

    @property
    def choice(self) -> int:
        return min(self.complete, key=lambda plan: self.curves[plan][-1])

    def run(self, propose: Propose, stop_epoch: StopEpoch) -> list[float]:
        """Return the regret of the choice at each budget."""
        regrets: list[float] = []
        chosen: int | None = None
        while self.left and len(regrets) < len(_BUDGETS):
            plan = propose(self)
            self.left.remove(plan)
            epochs = stop_epoch(self, plan)
            self.epochs += epochs
            while len(regrets) < len(_BUDGETS) and (
                self.epochs > _BUDGETS[len(regrets)] * self.pool.horizon
            ):
                assert chosen is not None
                regrets.append(self.pool.regret(chosen))
            if epochs == self.pool.horizon:
                self.complete.append(plan)
            chosen = self.choice if self.complete else plan
        assert chosen is not None
        return regrets + [self.pool.regret(chosen)] * (len(_BUDGETS) - len(regrets))


Propose = Callable[[Search], int]
StopEpoch = Callable[[Search, int], int]


def propose_next(search: Search) -> int:
    return search.left[0]


@dataclass
class ForecastProposals:
    """The best optimistic one of 24 random candidates, 2 of them new; a share is random."""

    model: PlanForecast | None = None
    fitted: int = 0
    kept: list[int] = field(default_factory=list)

    def __call__(self, search: Search) -> int:
        count = len(search.complete)
        if count < _STARTUP or search.rng.random() < _RANDOM_SHARE:
            return search.left[0]
        paths = search.pool.paths(0, search.pool.horizon, 10)
        if self.model is None or count >= self.fitted * 9 / 8:
            self.model = PlanForecast.fit(paths[search.complete], search.finals)
            self.fitted = count
        kept = [plan for plan in self.kept if plan in search.left]
        new = [plan for plan in search.rng.permutation(search.left).tolist() if plan not in kept]
        candidates = np.array(kept + new[: _CANDIDATES - len(kept)])
        bounds = self.model.optimistic(paths[candidates], float(search.rng.choice(DEVIATIONS)))
        ranked = candidates[np.argsort(bounds, kind="stable")]
        self.kept = ranked[1 : 1 + _CANDIDATES - _NEW].tolist()
        return int(ranked[0])


def never_stop(search: Search, plan: int) -> int:
    return search.pool.horizon


@dataclass
class Asha:
    """Successive halving: at each rung, the best 1 / factor of the plans that reached it go on."""

    rungs: tuple[int, ...]
    factor: int = 3
    reached: dict[int, list[float]] = field(default_factory=dict)

    def __call__(self, search: Search, plan: int) -> int:
        for rung in self.rungs:
            value = search.curves[plan][rung - 1]
            values = self.reached.setdefault(rung, [])
            values.append(value)
            if sum(other < value for other in values) >= max(1, len(values) // self.factor):
                return rung
        return search.pool.horizon


@dataclass
class ForecastPruner:
    """Stops a plan if it has a small chance to become better than the third best complete one."""

    chance: float = 0.02
    begin: float = 0.1
    every: float = 1 / 12
    models: dict[int, tuple[int, RunForecast]] = field(default_factory=dict)

    def __call__(self, search: Search, plan: int) -> int:
        horizon = search.pool.horizon
        if len(search.complete) < _STARTUP:
            return horizon
        third = float(np.sort(search.finals)[2])
        step = max(1, round(horizon * self.every))
        for epoch in range(max(2, round(horizon * self.begin)), horizon, step):
            behind = search.pool.paths(0, epoch, 6)
            ahead = search.pool.paths(epoch, horizon, 8)
            fitted, model = self.models.get(epoch, (0, None))
            if model is None or len(search.complete) >= fitted * 9 / 8:
                rows = search.complete
                curves = np.array([search.curves[row][:epoch] for row in rows])
                model = RunForecast.fit(behind[rows], ahead[rows], curves, search.finals)
                self.models[epoch] = len(rows), model
            chance = model.chance(
                behind[[plan]], ahead[[plan]], search.curves[plan][None, :epoch], third
            )
            if chance[0] < self.chance:
                return epoch
        return horizon


def _methods(horizon: int) -> dict[str, tuple[Propose, StopEpoch]]:
    geometric = tuple(5 * 3**k for k in range(9) if 5 * 3**k < horizon)
    return {
        "random, none": (propose_next, never_stop),
        "random, asha 5/3": (propose_next, Asha(geometric)),
        "random, asha at 33 %": (propose_next, Asha((max(1, round(horizon / 3)),))),
        "random, forecast": (propose_next, ForecastPruner()),
        "forecast, none": (ForecastProposals(), never_stop),
        "forecast, asha 5/3": (ForecastProposals(), Asha(geometric)),
        "forecast, forecast": (ForecastProposals(), ForecastPruner()),
    }


def simulate(pool: Pool, orders: int, chosen: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the regrets of each method, shape (orders, budgets)."""
    plans, seeds, _ = pool.metric.shape
    regrets: dict[str, list[list[float]]] = {}
    for order in range(orders):
        rng = np.random.default_rng(order)
        permutation: list[int] = rng.permutation(plans).tolist()
        drawn = [int(seed) for seed in rng.integers(0, seeds, size=(plans,))]
        for name, (propose, stop_epoch) in _methods(pool.horizon).items():
            if not chosen or name in chosen:
                search = Search(pool, permutation, drawn, order + 1000)
                regrets.setdefault(name, []).append(search.run(propose, stop_epoch))
    return {name: np.array(rows) for name, rows in regrets.items()}


def _interval(differences: np.ndarray) -> str:
    """Return the mean over orders with its 95 % interval."""
    margin = 1.96 * differences.std(ddof=1) / math.sqrt(len(differences))
    return f"{differences.mean():+.3f} ± {margin:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=60)
    parser.add_argument("--pools", nargs="+", default=sorted(p.stem for p in _POOLS.glob("*.npz")))
    parser.add_argument("--methods", nargs="+", default=[])
    parser.add_argument("--json", type=Path, help="write all regrets")
    options = parser.parse_args()
    use_one_thread()
    results = {
        name: simulate(Pool.load(_POOLS / f"{name}.npz"), options.orders, options.methods)
        for name in options.pools
    }
    if options.json:
        plain = {p: {m: r.tolist() for m, r in by.items()} for p, by in results.items()}
        options.json.write_text(json.dumps(plain))
    print(describe_machine())
    names = list(next(iter(results.values())))
    rows = []
    for name in names:
        regret = np.mean([by[name] for by in results.values()], axis=0)
        base = np.mean([by[names[0]] for by in results.values()], axis=0)
        cells = [f"{mean:.3f}" for mean in regret.mean(axis=0)]
        cells += [_interval((regret - base)[:, i]) for i in (1, 2)]
        rows.append([name, *cells])
    heads = ["proposals, pruner", *(f"{b} trainings" for b in _BUDGETS)]
    print("\n".join(markdown_table([*heads, "20, against the first", "40"], rows)))
    print()
    at_40 = [
        [pool, *(f"{by[name][:, 2].mean():.3f}" for name in names)] for pool, by in results.items()
    ]
    print("\n".join(markdown_table(["pool, at 40 trainings", *names], at_40)))


if __name__ == "__main__":
    main()
