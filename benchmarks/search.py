"""A study in a temporary SQLite file, a worker in this process, and the test of its best plans."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedsearch.engines import Engine, make_engine
from schedsearch.metric_names import metric_on_test
from schedsearch.numerics import current_numerics
from schedsearch.plan import Plan
from schedsearch.preparation import (
    ComputeOptions,
    PreparedSpace,
    choose_numerics,
    load_space,
    prepare_space,
)
from schedsearch.run import Run
from schedsearch.storage import StudyHandle, create_study, open_database
from schedsearch.training import fresh_seeds, train_to_end
from schedsearch.trajectories import open_store
from schedsearch.trajectories.cached_runs import CachedRuns
from schedsearch.worker import Messages, ProcessControl, Worker

SPACES = Path(__file__).parent.parent / "search_spaces"
#: The searches by name: a shipped space, and changes to it.
SEARCHES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "noisy_digits": ("noisy_digits", {}),
    "noisy_mnist": ("noisy_mnist", {}),
    "vae": ("vae", {}),
    "small_cnn": ("noisy_mnist", {"task": "benchmarks.small_cnn:SmallCnn"}),
}


@dataclass(frozen=True)
class StartedSearch:
    """A study, and the engine that trains it."""

    study: StudyHandle
    engine: Engine
    reason: str
    reuse: bool

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Work until nothing is left to begin, or until `should_stop`."""
        Worker(
            self.study,
            [self.engine],
            name="benchmark",
            cached_runs=CachedRuns.of_study(
                self.study, open_store(self.study.database, print) if self.reuse else None
            ),
            control=ProcessControl(should_stop),
            messages=Messages(print, lambda line: None),
        ).run()


def prepare_search(name: str, **search: Any) -> PreparedSpace:
    """Return a search with one seed per trial, no race, and given settings by key of [search]."""
    file, changes = SEARCHES[name]
    settings = {"seeds": 1, "race.top": 0} | search
    fixed = {f"search.{key}": value for key, value in settings.items()}
    return prepare_space(load_space(SPACES / f"{file}.toml", {**fixed, **changes}))


def choose_search_numerics(given: PreparedSpace, lanes: int | None) -> tuple[dict[str, Any], str]:
    """Return the numerics of a study, and the reason for them.

    `lanes=None` is the choice of auto; several lanes are compiled.
    """
    if lanes is None or lanes == 1:
        reasons = [""]
        return choose_numerics(given, ComputeOptions(lanes=lanes), reasons.append), reasons[-1]
    return current_numerics("lanes", lanes=lanes, compiled=True), f"{lanes} lanes, compiled"


@contextmanager
def start_search(
    given: PreparedSpace, lanes: int | None, engine: Engine | None = None, *, reuse: bool = True
) -> Iterator[StartedSearch]:
    """Create a study; `engine` replaces the engine, `reuse=False` turns off the cache of epochs."""
    numerics, reason = choose_search_numerics(given, lanes)
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{folder}/studies.db", create=True)
        study = create_study(database, given.record(numerics))
        if engine is None:
            engine = make_engine(given.task, horizon=given.space.horizon, numerics=numerics)
        yield StartedSearch(study, engine, reason, reuse)


def fresh_test_values(
    given: PreparedSpace, engine: Engine, plans: Sequence[Plan], seeds: int
) -> list[list[float]]:
    """Return each plan's objective on the test split with so many fresh seeds.

    A run that diverged counts as the worst of all others.
    """
    metric = metric_on_test(given.space.objective.metric)
    jobs = [(plan, seed) for plan in plans for seed in fresh_seeds(given.space, seeds)]
    found: list[float] = []
    for first in range(0, len(jobs), engine.lanes):
        runs = [
            Run(engine, space=given.space, plan=plan, seed=seed)
            for plan, seed in jobs[first : first + engine.lanes]
        ]
        train_to_end(runs)
        found.extend(run.test()[metric] if math.isfinite(run.metric) else math.nan for run in runs)
        for run in runs:
            run.leave_lane()
    finite = [value for value in found if math.isfinite(value)]
    worst = given.space.objective.to_minimize(max(map(given.space.objective.to_minimize, finite)))
    found = [value if math.isfinite(value) else worst for value in found]
    return [found[i : i + seeds] for i in range(0, len(found), seeds)]


def fresh_test_metrics(
    given: PreparedSpace, engine: Engine, plans: Sequence[Plan], seeds: int
) -> list[float]:
    """Return the mean of each plan's values of `fresh_test_values`."""
    return [statistics.fmean(values) for values in fresh_test_values(given, engine, plans, seeds)]
