"""Searches that begin from earlier studies: after how many trials do they reach a good value?

    python -m benchmarks.from_studies [--searches 8] [--trials 100] [--lanes 8] [--tasks ...]
        [--methods ...]

The shipped tasks that search `lr` or `self_label_weight`, leave one out: each task is searched

- cold: without earlier studies;
- same: from a study of the same task, with another seed;
- others: from one study of each other of these tasks that shares a hyperparameter;
- misleading: from a study of the same task whose ranks are reversed, so its best plans are the
  worst.

The result is the number of trials that begin until a search has the value that a cold search
reaches with all its trials: the median over the cold searches with the same seed. A search that
does not reach it counts as all its trials and one more. The searches share a few seeds, and differ
by the name of the worker, which seeds the proposals: what value is good depends on the seed, which
some searches would reach at once and others never. The ratios are geometric means over pairs with
the same seed and worker, with 95 % intervals. There is one run per trial, and no race.

`known_rate` and `known_weights` train nothing: their metric is a known function of the values, so
many searches take seconds. They train one trial at a time; the value of the best trial is that
without the noise by which it was chosen.

`start` trains at most an eighth of the trials at once, so a search of 100 trials has 8 lanes. With
more, most first trials begin before any result can tell that an earlier study misleads.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks import known_task
from benchmarks.measurement import describe_machine, markdown_table, use_one_thread
from benchmarks.search import SPACES, choose_search_numerics
from schedsearch.earlier import Beginning, begin_from, read_beginning
from schedsearch.engines import Engine, make_engine
from schedsearch.preparation import (
    PreparedSpace,
    load_space,
    prepare_space,
    space_from_content,
)
from schedsearch.storage import StudyHandle, create_study, open_database
from schedsearch.storage.attributes import PLAN
from schedsearch.task import is_train_function
from schedsearch.trajectories.cached_runs import CachedRuns
from schedsearch.worker import Messages, ProcessControl, Worker

#: Tasks by the hyperparameters that they share.
_TASKS = ("noisy_digits", "noisy_mnist", "helmholtz", "regularized")
_METHODS = ("cold", "same", "others", "misleading")
#: The seeds of the searches, in turn.
_SEEDS = 4


class Searches:
    """The searches of one task, in one database and with one engine.

    Args:
        task: a shipped space.
        trials: of each search.
        lanes: of the engine.
        url: of the database.
    """

    def __init__(self, task: str, trials: int, lanes: int, url: str) -> None:
        self.task, self._trials, self._lanes, self._url = task, trials, lanes, url
        self._engine: Engine | None = None

    def prepare(self, name: str, seed: int, **search: object) -> PreparedSpace:
        settings = {"trials": self._trials, "seed": seed, "seeds": 1, "race.top": 0, **search}
        overrides: dict[str, object] = {f"search.{key}": v for key, v in settings.items()}
        overrides["name"] = name
        if self.task in known_task.TASKS:
            content = known_task.document_of(self.task)
            return prepare_space(space_from_content(content, self.task, overrides))
        return prepare_space(load_space(SPACES / f"{self.task}.toml", overrides))

    def run(self, given: PreparedSpace, beginning: Beginning, worker: int = 0) -> StudyHandle:
        """Search, and return the study; the worker's number seeds the proposals."""
        is_loop = is_train_function(given.task)
        numerics, _ = choose_search_numerics(given, 1 if is_loop else self._lanes)
        if self._engine is None:
            self._engine = make_engine(given.task, horizon=given.space.horizon, numerics=numerics)
        study = create_study(open_database(self._url, create=True), given.record(numerics))
        study = begin_from(study, beginning, _say)
        Worker(
            study,
            [self._engine],
            name=f"worker-{worker}",
            cached_runs=CachedRuns.of_study(study, None),
            control=ProcessControl(lambda: False),
            messages=Messages(print, lambda line: None),
        ).run()
        for lane in range(self._engine.lanes):
            self._engine.release(lane)
        return study


def misled(given: PreparedSpace, cold: StudyHandle) -> Beginning:
    """Return what a study takes of one whose ranks are reversed: the worst plans as the best."""
    document = cold.space.to_document()
    opposite = {"minimize": "maximize", "maximize": "minimize"}
    document["objective"]["direction"] = opposite[document["objective"]["direction"]]
    space = type(cold.space).from_document(document, "reversed")
    reversed_study = replace(cold, record=replace(cold.record, space=space))
    return read_beginning(given.space, [reversed_study])


def best_so_far(study: StudyHandle) -> list[float]:
    """Return the value of the best trial after each one that has begun, lower is better.

    Of a task whose metric is known, it is that without noise.
    """
    best, shown, found = math.inf, math.inf, []
    is_known = study.name.startswith(known_task.TASKS)
    for trial in study.trials():
        if trial.value is not None and trial.state.name == "COMPLETE":
            value = study.space.objective.to_minimize(trial.value)
            if value < best:
                best = value
                shown = known_task.value_of(trial.user_attrs[PLAN]) if is_known else value
        found.append(shown)
    return found


def trials_to(value: float, study: StudyHandle) -> int:
    """Return how many trials had begun when the best value was as good; if never, one more."""
    best = best_so_far(study)
    return next((n for n, b in enumerate(best, start=1) if b <= value), len(best) + 1)


def measure(
    tasks: Mapping[str, Searches], count: int, methods: Sequence[str]
) -> dict[str, dict[str, list[int]]]:
    """Return the trials of each search, by task and method."""
    # The earlier studies have a seed that no other search has.
    earlier = {
        task: searches.run(searches.prepare(f"{task}-earlier", 10_000), Beginning())
        for task, searches in tasks.items()
    }
    found: dict[str, dict[str, list[int]]] = {}
    for task, searches in tasks.items():
        others = [study for other, study in earlier.items() if other != task]
        by_method: dict[str, list[StudyHandle]] = {method: [] for method in methods}
        for number in range(count):
            for method, studies in by_method.items():
                given = searches.prepare(f"{task}-{method}-{number}", number % _SEEDS)
                beginning = beginning_of(method, given, earlier[task], others)
                studies.append(searches.run(given, beginning, number))
                _say(f"{task}, search {number}, {method}: {best_so_far(studies[-1])[-1]:.4g}")
        found[task] = _trials_by_method(by_method)
    return found


def _trials_by_method(by_method: Mapping[str, Sequence[StudyHandle]]) -> dict[str, list[int]]:
    cold = [best_so_far(study)[-1] for study in by_method["cold"]]
    values = [statistics.median(cold[seed::_SEEDS]) for seed in range(min(_SEEDS, len(cold)))]
    return {
        method: [trials_to(values[i % _SEEDS], study) for i, study in enumerate(studies)]
        for method, studies in by_method.items()
    }


def beginning_of(
    method: str, given: PreparedSpace, same: StudyHandle, others: Sequence[StudyHandle]
) -> Beginning:
    """Return what a search takes of earlier studies: one of the same task, and those of others."""
    if method == "misleading":
        return misled(given, same)
    names = given.space.searched().keys()
    sharing = [study for study in others if names & study.space.searched().keys()]
    return read_beginning(given.space, {"same": [same], "others": sharing}.get(method, []))


def _ratio(trials: Sequence[int], cold: Sequence[int]) -> str:
    """Return the geometric mean of the ratios with its 95 % interval."""
    logs = [math.log(a / b) for a, b in zip(trials, cold, strict=True)]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return f"{math.exp(mean):.2f}"
    margin = 1.96 * statistics.stdev(logs) / math.sqrt(len(logs))
    return f"{math.exp(mean):.2f} ({math.exp(mean - margin):.2f} to {math.exp(mean + margin):.2f})"


def _methods(chosen: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """Return the methods to measure: always cold searches, and no others of a single task."""
    without = {"others"} if len(tasks) < 2 else set()
    return [m for m in _METHODS if m == "cold" or m in {*chosen} - without]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=int, default=8)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--lanes", type=int, default=8)
    choices = [*_TASKS, *known_task.TASKS]
    parser.add_argument("--tasks", nargs="+", default=_TASKS, choices=choices)
    parser.add_argument("--methods", nargs="+", default=_METHODS, choices=_METHODS)
    options = parser.parse_args()
    methods = _methods(options.methods, options.tasks)
    use_one_thread()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/studies.db"
        tasks = {t: Searches(t, options.trials, options.lanes, url) for t in options.tasks}
        found = measure(tasks, options.searches, methods)
    print(describe_machine())
    rows = []
    for task, by_method in found.items():
        medians = [f"{statistics.median(by_method[m]):g}" for m in methods]
        ratios = [_ratio(by_method[m], by_method["cold"]) for m in methods[1:]]
        rows.append([task, *medians, *ratios])
    head = ["task", *(f"{m}, median" for m in methods), *(f"{m} / cold" for m in methods[1:])]
    print("\n".join(markdown_table(head, rows)))


if __name__ == "__main__":
    main()
