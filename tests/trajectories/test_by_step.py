"""Runs whose values change within epochs share an epoch only if all its values are equal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from schedsearch.engines import EpochResult, make_engine
from schedsearch.plan import Plan
from schedsearch.schedules import Constant, Coupled, Join, Multistep, Schedule
from schedsearch.space import Space
from schedsearch.storage import Database, open_database
from schedsearch.trajectories import Folder, TrajectoryStore
from schedsearch.trajectories.cached_runs import CachedRuns
from tests.engines.toys import Toy, train_toy
from tests.searches import document, url_of
from tests.trajectories.stores import opened

#: A checkpoint at least every 6 epochs, of which the first 12 are trained.
HORIZON, EPOCHS = 60, 12
SPACE = Space.from_document(document(pruner={"name": "none"}) | {"horizon": HORIZON}, "small.toml")
NUMERICS: dict[str, dict[str, Any]] = {
    "sequential": {"engine": "sequential"},
    "lanes": {"engine": "lanes", "lanes": 2, "compiled": False},
    "loop": {"engine": "loop"},
}
each_engine = pytest.mark.parametrize("kind", NUMERICS)
#: The engines that know the steps of an epoch, of which the toy has 5.
each_stepping_engine = pytest.mark.parametrize("kind", ["sequential", "lanes"])


def dropping_at(time: float, *, interval: str = "step", final: float = 0.025) -> Plan:
    schedule = Join((Constant(0.1), Constant(final)), (time,))
    return Plan({("lr",): schedule}, intervals={"lr": interval})


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(url_of(tmp_path), create=True)


@dataclass(frozen=True)
class Trained:
    """How a run was trained: its first epochs were replayed, the others trained from a checkpoint.

    Attributes:
        replayed: the number of epochs whose results were cached.
        restored: the epoch of the checkpoint from which the run continued, 0 without one.
        results: of all epochs.
    """

    replayed: int
    restored: int
    results: list[tuple[Any, Any]]


def train(kind: str, store: TrajectoryStore | None, plan: Plan) -> Trained:
    """Train the first epochs of a plan, as a worker with a new engine does."""
    task: Any = train_toy if kind == "loop" else Toy()
    engine = make_engine(task, horizon=HORIZON, numerics=NUMERICS[kind])
    runs = CachedRuns(store, space=SPACE, fingerprint="toy", numerics=NUMERICS[kind])
    run = runs.begin(engine, plan, seed=0)
    while run.epochs < EPOCHS and runs.replay_epoch(run):
        pass
    replayed, restored = run.epochs, run.epochs
    if run.epochs < EPOCHS:
        run.enter_lane(0)
        restored = run.lane_epoch
    while run.lane is not None and run.lane_epoch < EPOCHS:
        result = engine.train_epoch([run.lane_values, *[None] * (engine.lanes - 1)])[0]
        assert isinstance(result, EpochResult), result
        run.record_epoch(result)
    runs.end(run)
    runs.flush()
    run.leave_lane()
    return Trained(
        replayed, restored, list(zip(run.history.metrics, run.history.terms, strict=True))
    )


@each_engine
def test_a_run_with_another_course_within_an_epoch_continues_from_the_checkpoint_before_it(
    database: Database, folder: Folder, kind: str
) -> None:
    """Both have the same values at the beginning of every epoch, and differ within epoch 9."""
    first, second = dropping_at(9.7), dropping_at(9.3)
    assert train(kind, opened(database, folder), first).replayed == 0
    found = train(kind, opened(database, folder), second)
    assert found.results == train(kind, None, second).results
    if kind == "loop":
        # The number of its steps is not known, so only equal schedules are known to be equal.
        assert (found.replayed, found.restored) == (0, 0)
    else:
        assert (found.replayed, found.restored) == (9, 9)


@each_engine
def test_a_run_with_the_same_schedules_shares_all_epochs(
    database: Database, folder: Folder, kind: str
) -> None:
    trained = train(kind, opened(database, folder), dropping_at(9.7))
    found = train(kind, opened(database, folder), dropping_at(9.7))
    assert (found.replayed, found.results) == (EPOCHS, trained.results)


@each_stepping_engine
@pytest.mark.parametrize(
    ("schedule", "interval"),
    [
        (Multistep(0.1, 0.25, (9.5,)), "step"),
        # 9.5 and 9.55 are both reached at the step 3 of 5, at 9.6.
        (Join((Constant(0.1), Constant(0.025)), (9.55,)), "step"),
    ],
    ids=["another family", "another boundary"],
)
def test_a_run_with_equal_values_at_each_step_shares_all_epochs(
    database: Database, folder: Folder, kind: str, schedule: Schedule, interval: Any
) -> None:
    trained = train(kind, opened(database, folder), dropping_at(9.5))
    found = train(kind, opened(database, folder), Plan({("lr",): schedule}, {}, {"lr": interval}))
    assert (found.replayed, found.results) == (EPOCHS, trained.results)


@each_stepping_engine
def test_epochs_without_a_change_are_shared_between_the_intervals(
    database: Database, folder: Folder, kind: str
) -> None:
    train(kind, opened(database, folder), dropping_at(9, interval="epoch"))
    found = train(kind, opened(database, folder), dropping_at(9.7))
    assert (found.replayed, found.restored) == (9, 9)


@each_engine
def test_a_value_that_follows_a_peer_is_shared_until_another_one_leaves_it_within_an_epoch(
    database: Database, folder: Folder, kind: str
) -> None:
    blur: dict[tuple[str, ...], Schedule] = {("blur",): Join((Constant(0.2), Constant(0.1)), (9,))}
    half, drop = Coupled(Constant(0.5), to="blur"), Join((Constant(0.1), Constant(0.05)), (8.7,))
    follows, leaves = (
        Plan({**blur, ("lr",): schedule}, intervals={"lr": "step"}) for schedule in (half, drop)
    )
    train(kind, opened(database, folder), follows)
    found = train(kind, opened(database, folder), leaves)
    assert (found.replayed, found.restored) == ((0, 0) if kind == "loop" else (8, 6))
    assert found.results == train(kind, None, leaves).results
