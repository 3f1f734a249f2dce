"""Runs find the cached epochs of equal runs, and save checkpoints as their space needs them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, update

from schedsearch.run import Run
from schedsearch.space import Space
from schedsearch.storage import Database
from schedsearch.storage.tables import trials
from schedsearch.trajectories import Folder, TrajectoryStore
from schedsearch.trajectories.cached_runs import CachedRuns, TrialRow
from tests.scripted import ScriptedEngine, train
from tests.searches import DEFAULTS, document
from tests.trajectories.stores import opened
from tests.trajectories.test_trie import statements

#: A checkpoint at least every 6 epochs.
HORIZON = 60


def space_of(horizon: int = HORIZON, value: str = "last", **search: Any) -> Space:
    content = document(**{"pruner": {"name": "none"}, **search}) | {"horizon": horizon}
    content["objective"] |= {"value": value}
    return Space.from_document(content, "small.toml").with_defaults(DEFAULTS)


def runs_of(
    store: TrajectoryStore, space: Space, *, kind: str = "sequential", **options: Any
) -> CachedRuns:
    return CachedRuns(
        store, space=space, fingerprint="fingerprint", numerics={"engine": kind}, **options
    )


def begin(runs: CachedRuns, space: Space, **options: Any) -> tuple[Run, ScriptedEngine]:
    engine = ScriptedEngine([1.0 / (1 + epoch) for epoch in range(space.horizon)])
    return runs.begin(engine, space.baseline(), seed=0, **options), engine


def trained(runs: CachedRuns, space: Space, epochs: int) -> None:
    """Train some epochs of the baseline, and end the run."""
    run, _ = begin(runs, space)
    run.enter_lane(0)
    train(run, epochs)
    runs.end(run)
    runs.flush()


def resumed_after(runs: CachedRuns, space: Space) -> tuple[int, int | None]:
    """Return how many epochs of the baseline are cached, and its last checkpoint's epoch."""
    run, engine = begin(runs, space)
    while runs.replay_epoch(run):
        pass
    run.enter_lane(0)
    runs.end(run)
    [epoch] = engine.filled_from
    return run.epochs, epoch


def test_a_checkpoint_is_saved_at_the_rungs_of_the_pruner(
    database: Database, folder: Folder
) -> None:
    space = space_of(pruner={"name": "asha", "min_epochs": 5, "reduction_factor": 3})
    store = opened(database, folder)
    trained(runs_of(store, space), space, 5)
    assert resumed_after(runs_of(store, space), space) == (5, 5)


def test_a_checkpoint_is_saved_at_the_branches_of_the_space(
    database: Database, folder: Folder
) -> None:
    space, store = space_of(), opened(database, folder)
    trained(runs_of(store, space, branches=frozenset({7})), space, 8)
    assert resumed_after(runs_of(store, space), space) == (8, 7)


def test_a_space_that_branches_at_most_epochs_has_a_checkpoint_every_spacing_only(
    database: Database, folder: Folder
) -> None:
    space, store = space_of(), opened(database, folder)
    branches = frozenset(range(1, HORIZON))
    trained(runs_of(store, space, branches=branches), space, 8)
    assert resumed_after(runs_of(store, space), space) == (8, 6)


def test_a_task_is_reused_at_any_horizon_and_a_training_loop_at_its_own_only(
    database: Database, folder: Folder
) -> None:
    space, longer, store = space_of(), space_of(2 * HORIZON), opened(database, folder)
    for kind, epochs in (("sequential", 8), ("loop", 0)):
        trained(runs_of(store, space, kind=kind), space, 8)
        assert resumed_after(runs_of(store, longer, kind=kind), longer)[0] == epochs


def test_a_run_that_keeps_the_best_model_trains_every_epoch(
    database: Database, folder: Folder
) -> None:
    space, store = space_of(value="best"), opened(database, folder)
    runs = runs_of(store, space)
    trained(runs, space, 8)
    for keep_best, replayed in ((False, True), (True, False)):
        run, _ = begin(runs, space, keep_best=keep_best)
        assert run.replay_epoch() == replayed


def test_a_leased_epoch_is_not_looked_up(database: Database, folder: Folder) -> None:
    space = space_of()
    runs = runs_of(opened(database, folder), space)
    run, _ = begin(runs, space)
    assert runs.lease([run]) == {run}
    with statements(database) as made:
        assert not runs.replay_epoch(run)
    assert made == []


def test_a_lease_names_the_row_of_the_trial_and_ends_with_it(
    database: Database, folder: Folder
) -> None:
    with database.engine.begin() as connection:
        row = insert(trials).values(number=0, state="RUNNING")
        [trial_id] = connection.execute(row).inserted_primary_key
    space = space_of()
    dead, alive = (runs_of(opened(database, folder), space) for _ in range(2))
    lost, _ = begin(dead, space, row=TrialRow(trial_id, number=0, first=0))
    heir, _ = begin(alive, space)
    assert dead.lease([lost]) == {lost}
    assert alive.lease([heir]) == set()
    with database.engine.begin() as connection:
        connection.execute(update(trials).values(state="FAIL"))
    assert alive.lease([heir]) == {heir}


def test_a_run_with_cheap_epochs_looks_up_only_those_at_its_beginning(
    database: Database, folder: Folder
) -> None:
    space, store = space_of(), opened(database, folder)
    runs = runs_of(store, space)
    runs.record_epoch_time(seconds=1e-4, runs=1)
    assert runs.epochs_are_cheap
    run, _ = begin(runs, space)
    assert not runs.replay_epoch(run)
    with statements(database) as made:
        assert not runs.replay_epoch(run)
    assert made == []
    assert runs.lease([run]) == {run}
    run.enter_lane(0)
    train(run, 8)
    runs.flush()
    assert resumed_after(runs_of(store, space), space) == (0, None)


def test_one_cheap_epoch_ends_the_caching_of_runs_in_training(
    database: Database, folder: Folder
) -> None:
    space, store = space_of(), opened(database, folder)
    runs = runs_of(store, space)
    run, _ = begin(runs, space)
    run.enter_lane(0)
    train(run, 3)
    runs.record_epoch_time(seconds=0.5, runs=1)
    assert not runs.epochs_are_cheap
    runs.record_epoch_time(seconds=0.005, runs=4)
    train(run, 3)
    runs.flush()
    assert resumed_after(runs_of(store, space), space)[0] == 3


def test_a_whole_run_with_cheap_epochs_can_be_saved_at_its_end(
    database: Database, folder: Folder
) -> None:
    space, store = space_of(), opened(database, folder)
    runs = runs_of(store, space)
    runs.record_epoch_time(seconds=0.0, runs=1)
    run, _ = begin(runs, space)
    run.enter_lane(0)
    train(run)
    runs.save_if_among_best([run], rank=0.0)
    runs.flush()
    assert resumed_after(runs_of(store, space), space) == (HORIZON, HORIZON)


def test_a_run_whose_lane_has_to_catch_up_is_not_saved_as_a_whole(
    database: Database, folder: Folder
) -> None:
    space, store = space_of(), opened(database, folder)
    trained(runs_of(store, space), space, HORIZON)
    for file in folder.path.iterdir():
        file.unlink()
    runs = runs_of(store, space)
    run, _ = begin(runs, space)
    while runs.replay_epoch(run):
        pass
    run.enter_lane(0)
    assert run.is_catching_up
    runs.record_epoch_time(seconds=0.0, runs=1)
    runs.save_if_among_best([run], rank=0.0)
    assert list(folder.path.iterdir()) == []
