"""Checkpoints: the deepest valid one is found, and none that a live run needs is evicted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from optuna.artifacts import FileSystemArtifactStore

from schedsearch.storage import Database
from schedsearch.trajectories import Folder, TrajectoryStore, TrieCursor, open_store
from schedsearch.trajectories.snapshots import encode
from tests.trajectories.stores import follow, opened, same, snapshot, train


def files(folder: Folder) -> list[Path]:
    return sorted(folder.path.iterdir()) if folder.path.is_dir() else []


def kept(store: TrajectoryStore, path: list[int]) -> TrieCursor:
    """Train a path to its end, save a checkpoint there, and end the run."""
    cursor = train(store, path, keep=[len(path)])
    cursor.end()
    store.flush()
    return cursor


def size() -> int:
    content = encode(snapshot([0]))
    assert content is not None
    return len(content)


class TestRestoring:
    def test_the_deepest_on_the_path_is_found(self, database: Database, folder: Folder) -> None:
        store = opened(database, folder)
        path = [0, 1, 2, 3, 4]
        train(store, path, keep=[2, 4])
        store.flush()
        reader = opened(database, folder)
        for branch, depth in (([0, 1, 2, 3, 4], 4), ([0, 1, 2, 3, 9], 4), ([0, 1, 2, 9], 2)):
            cursor = follow(reader, branch)
            assert same(cursor.restore(), snapshot(path[:depth]))
        assert follow(reader, [0, 9]).restore() is None

    def test_an_epoch_beyond_one_statement_is_found(
        self, database: Database, folder: Folder
    ) -> None:
        store = opened(database, folder)
        path = [0] * 1200
        train(store, path, keep=[3])
        store.flush()
        assert same(follow(opened(database, folder), path).restore(), snapshot(path[:3]))

    def test_a_snapshot_with_an_object_is_not_saved(
        self, database: Database, folder: Folder
    ) -> None:
        from schedsearch.engines import Snapshot

        cursor = train(opened(database, folder), [0])
        assert not cursor.save(Snapshot(1, {}, extra={"state": object()}))
        assert not files(folder)

    def test_any_artifact_store_of_optuna_works(self, database: Database, tmp_path: Path) -> None:
        store = open_store(database, print, artifacts=FileSystemArtifactStore(tmp_path))
        assert store is not None
        assert kept(store, [0, 1]).restore() is not None


class TestDamage:
    @pytest.mark.parametrize(
        "damage",
        [
            lambda file: file.unlink(),
            lambda file: file.write_bytes(file.read_bytes()[:-1]),
            lambda file: file.write_bytes(b"\0" + file.read_bytes()[1:]),
            lambda file: file.write_bytes(b""),
        ],
        ids=["lost", "cut", "changed", "emptied"],
    )
    def test_it_is_reported_once_and_the_checkpoint_before_is_used(
        self, database: Database, folder: Folder, damage: Callable[[Path], None]
    ) -> None:
        store = opened(database, folder)
        cursor = train(store, [0, 1, 2], keep=[1, 3])
        store.flush()
        [deepest] = [file for file in files(folder) if file.name.startswith(cursor.node)]
        damage(deepest)
        said: list[str] = []
        reader = opened(database, folder, said.append)
        for _ in range(2):
            assert same(follow(reader, [0, 1, 2]).restore(), snapshot([0]))
        assert len(said) == 1
        assert deepest.name in said[0]
        assert len(files(folder)) == 1

    def test_a_store_that_is_unavailable_loses_nothing(
        self, database: Database, folder: Folder
    ) -> None:
        kept(opened(database, folder), [0, 1])
        [file] = files(folder)
        said: list[str] = []
        store = opened(database, folder, said.append)
        moved = file.rename(file.with_suffix(".away"))
        file.mkdir()  # reading it raises, as without a network
        for _ in range(2):
            assert follow(store, [0, 1]).restore() is None
        assert len(said) == 1
        file.rmdir()
        moved.rename(file)
        assert follow(store, [0, 1]).restore() is not None

    def test_a_lost_one_can_be_saved_again(self, database: Database, folder: Folder) -> None:
        store = opened(database, folder)
        kept(store, [0, 1])
        files(folder)[0].unlink()
        cursor = follow(store, [0, 1])
        assert cursor.restore() is None
        cursor.save(snapshot([0, 1]))
        store.flush()
        assert same(follow(opened(database, folder), [0, 1]).restore(), snapshot([0, 1]))

    def test_one_that_another_worker_replaced_meanwhile_is_not_deleted(
        self, database: Database, folder: Folder
    ) -> None:
        class Interrupted(Folder):
            """While it opens a file, another worker finds that file lost and saves it again."""

            interrupted = False

            def open_reader(self, artifact_id: str) -> BinaryIO:
                if not self.interrupted:
                    self.interrupted = True
                    self.remove(artifact_id)
                    other = opened(database, folder)
                    cursor = follow(other, [0, 1])
                    assert cursor.restore() is None
                    cursor.save(snapshot([0, 1]))
                    other.flush()
                return super().open_reader(artifact_id)

        kept(opened(database, folder), [0, 1])
        reader = opened(database, Interrupted(folder.path))
        assert follow(reader, [0, 1]).restore() is None
        assert same(follow(opened(database, folder), [0, 1]).restore(), snapshot([0, 1]))

    def test_a_folder_that_is_not_writable_is_reported_once(
        self, database: Database, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        said: list[str] = []
        store = opened(database, Folder(tmp_path / "file" / "checkpoints"), said.append)
        assert kept(store, [0, 1]).restore() is None
        kept(store, [0, 2])
        assert len(said) == 1
        assert follow(opened(database, Folder(tmp_path)), [0, 1]).epoch == 2


class TestBudget:
    def test_the_least_recently_used_is_evicted_first(
        self, database: Database, folder: Folder
    ) -> None:
        store = opened(database, folder, budget=3 * size())
        for value in range(3):
            kept(store, [value])
        used = follow(store, [0])
        assert used.restore() is not None
        used.end()
        store.flush()
        kept(store, [3])
        assert len(files(folder)) == 3
        there = [value for value in range(4) if follow(store, [value]).restore()]
        assert there == [0, 2, 3]

    def test_the_last_one_of_a_live_run_is_not_evicted(
        self, database: Database, folder: Folder
    ) -> None:
        live, others = opened(database, folder), opened(database, folder, budget=2 * size())
        running = train(live, [0], keep=[1])
        live.flush()
        for value in range(1, 6):
            kept(others, [value])
        assert len(files(folder)) == 2
        assert same(running.restore(), snapshot([0]))

    def test_the_one_that_a_run_was_resumed_from_is_not_evicted(
        self, database: Database, folder: Folder
    ) -> None:
        store = opened(database, folder, budget=2 * size())
        kept(store, [0])
        running = follow(store, [0])
        assert running.restore() is not None
        for value in range(1, 6):
            kept(store, [value])
        assert running.restore() is not None

    def test_a_deeper_one_unpins_the_one_before(self, database: Database, folder: Folder) -> None:
        store = opened(database, folder, budget=2 * size())
        running = train(store, [0, 0, 0], keep=[1])
        store.flush()
        running.save(snapshot([0, 0]))
        store.flush()
        kept(store, [1])
        assert same(follow(store, [0, 0, 0]).restore(), snapshot([0, 0]))
        assert follow(store, [0]).restore() is None

    def test_one_that_does_not_fit_is_not_saved(self, database: Database, folder: Folder) -> None:
        store = opened(database, folder, budget=2 * size())
        runs = [train(store, [value], keep=[1]) for value in range(3)]
        store.flush()
        assert [run.restore() is not None for run in runs] == [True, True, False]
        assert len(files(folder)) == 2

    def test_an_expired_pin_does_not_prevent_eviction(
        self, database: Database, folder: Folder
    ) -> None:
        dead = opened(database, folder, lease_seconds=0.0)
        train(dead, [0], keep=[1])
        dead.flush()
        store = opened(database, folder, budget=size())
        kept(store, [1])
        assert follow(store, [0]).restore() is None

    def test_two_workers_together_stay_within_the_budget(
        self, database: Database, folder: Folder
    ) -> None:
        one, other = (opened(database, folder, budget=3 * size()) for _ in range(2))
        kept(one, [0])
        kept(other, [1])
        kept(other, [2])
        kept(one, [3])
        assert len(files(folder)) == 3

    def test_a_renewed_pin_prevents_eviction(self, database: Database, folder: Folder) -> None:
        slow = opened(database, folder, lease_seconds=0.0)
        running = train(slow, [0], keep=[1])
        slow.flush()
        slow.leases.seconds = 60.0
        slow.renew()
        kept(opened(database, folder, budget=size()), [1])
        assert running.restore() is not None

    def test_the_pin_of_a_resumed_run_is_renewed(self, database: Database, folder: Folder) -> None:
        kept(opened(database, folder), [0])
        slow = opened(database, folder, lease_seconds=0.0)
        running = follow(slow, [0])
        assert running.restore() is not None
        slow.leases.seconds = 60.0
        slow.renew()
        kept(opened(database, folder, budget=size()), [1])
        assert running.restore() is not None

    def test_a_failed_eviction_removes_no_file(self, database: Database, folder: Folder) -> None:
        store = opened(database, folder, budget=size())
        kept(store, [0])
        train(store, [1], keep=[1]).end()
        with database.engine.connect() as connection, connection.begin() as transaction:
            store.write(connection)
            transaction.rollback()
        assert follow(opened(database, folder), [0]).restore() is not None


class TestSweeping:
    def test_only_old_files_without_a_row_are_removed(
        self, database: Database, folder: Folder
    ) -> None:
        kept(opened(database, folder), [0])
        named = files(folder)
        orphan, fresh = (folder.path / f"{digit * 32}.01234567.safetensors" for digit in "ab")
        orphan.touch()
        fresh.touch()
        hours_ago = time.time() - 7200
        for file in (orphan, *named):
            os.utime(file, (hours_ago, hours_ago))
        store = opened(database, folder)
        assert files(folder) == sorted([*named, fresh])
        assert follow(store, [0]).restore() is not None

    def test_two_workers_that_saved_one_node_leave_one_file(
        self, database: Database, folder: Folder
    ) -> None:
        one, other = opened(database, folder), opened(database, folder)
        for store in (one, other):
            train(store, [0], keep=[1])
        assert len(files(folder)) == 2
        one.flush()
        other.flush()
        assert len(files(folder)) == 1
        assert same(follow(opened(database, folder), [0]).restore(), snapshot([0]))
