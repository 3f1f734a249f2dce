"""Checkpoints: the deepest valid one is found, and none that a live run needs is evicted."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import pytest
from optuna.artifacts import FileSystemArtifactStore
from sqlalchemy import text, update

from schedsearch.errors import StorageError
from schedsearch.storage import Database
from schedsearch.storage.clock import database_time
from schedsearch.trajectories import Folder, TrajectoryStore, TrieCursor, open_store
from schedsearch.trajectories.snapshots import encode
from schedsearch.trajectories.tables import pins
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


def safetensors(metadata: object) -> bytes:
    """Return a safetensors file without tensors, with this snapshot in its header."""
    header = json.dumps({"__metadata__": {"snapshot": metadata}}).encode()
    return len(header).to_bytes(8, "little") + header


_PARTS = '"model": {"dict": []}, "optimizer": {"dict": []}, "extra": {"dict": []}'
INVALID = [
    b"",
    b"x",
    b"\xff" * 8 + b"{}",  # a header of 2^64 bytes
    (2**62).to_bytes(8, "little"),
    (2).to_bytes(8, "little") + b"{}",
    b'<\0\0\0\0\0\0\0{"0":{"dtype":"F64","shape":[99999999999],"data_offsets":[0,8]}}',
    safetensors("{}"),
    safetensors("[" * 10**5),
    safetensors('{"epoch": 99999999999999, ' + _PARTS + "}"),
    safetensors('{"epoch": "2", ' + _PARTS + "}"),
    safetensors('{"epoch": 2, "model": 7, "optimizer": 7, "extra": 7}'),
    safetensors('{"epoch": 2, "model": {"tensor": "0"}, "optimizer": 7, "extra": 7}'),
    safetensors('{"epoch": 2, "model": {"a": 1, "b": 2}, "optimizer": 7, "extra": 7}'),
    safetensors('{"epoch": 2, "model": {"dict": [[{"dict": []}, 1]]}, "extra": 7}'),
]


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

    def test_a_pin_that_ends_later_than_any_can_does_not_prevent_eviction(
        self, database: Database, folder: Folder
    ) -> None:
        store = opened(database, folder, budget=size())
        train(store, [0], keep=[1])
        store.flush()
        with database.engine.begin() as connection:
            connection.execute(update(pins).values(expires=pins.c.expires + 86_400.0))
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
            store.write(connection, database_time(connection))
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


class TestStrangers:
    """A database that another person wrote."""

    def change(self, database: Database, **values: object) -> None:
        with database.engine.begin() as connection:
            names = ", ".join(f"{name} = :{name}" for name in values)
            connection.execute(text(f"UPDATE schedsearch_checkpoints SET {names}"), values)

    @pytest.mark.parametrize(
        "name",
        ["{victim}", "../victim", "../../victim", "victim\x1b[2J", "", "x" * 79],
        ids=["absolute", "above", "far above", "escape", "empty", "long"],
    )
    def test_a_name_that_is_not_a_checkpoints_is_dropped_and_its_file_stays(
        self, database: Database, folder: Folder, tmp_path: Path, name: str
    ) -> None:
        kept(opened(database, folder), [0, 1])
        victim = tmp_path / "victim"
        victim.write_text("precious")
        self.change(database, artifact=name.format(victim=victim)[:80])
        said: list[str] = []
        store = opened(database, folder, said.append, budget=size())
        assert follow(store, [0, 1]).restore() is None
        assert len(said) == 1
        assert said[0].isprintable()
        assert victim.read_text() == "precious"

    @pytest.mark.parametrize("other", [False, True], ids=["a folder", "any store"])
    @pytest.mark.parametrize("hostile", ["../victim", "{victim}"], ids=["above", "absolute"])
    def test_an_eviction_removes_no_other_file(
        self, database: Database, folder: Folder, tmp_path: Path, hostile: str, other: bool
    ) -> None:
        folder.path.mkdir()
        artifacts = FileSystemArtifactStore(folder.path) if other else folder
        store = open_store(database, print, artifacts=artifacts, budget=size())
        assert store is not None
        kept(store, [0])
        victim = tmp_path / "victim"
        victim.write_text("precious")
        self.change(database, artifact=hostile.format(victim=victim)[-80:])
        kept(store, [1])
        with database.engine.connect() as connection:
            rows = connection.execute(text("SELECT artifact FROM schedsearch_checkpoints"))
            assert all("victim" not in row.artifact for row in rows)
        assert victim.read_text() == "precious"

    @pytest.mark.parametrize("claimed", [-1, 0, 2**40, 2**62])
    def test_a_size_that_is_wrong_is_neither_allocated_nor_believed(
        self, database: Database, folder: Folder, claimed: int
    ) -> None:
        store = opened(database, folder, budget=3 * size())
        kept(store, [0])
        self.change(database, bytes=claimed)
        said: list[str] = []
        reader = opened(database, folder, said.append, budget=3 * size())
        assert follow(reader, [0]).restore() is None
        assert len(said) == 1
        for value in (1, 2, 3, 4):
            kept(reader, [value])
        assert follow(reader, [4]).restore() is not None

    def test_a_file_that_grew_is_not_read_to_its_end(
        self, database: Database, folder: Folder
    ) -> None:
        kept(opened(database, folder), [0])
        [file] = files(folder)
        os.truncate(file, 2**42)  # 4 TiB on no disk
        said: list[str] = []
        assert follow(opened(database, folder, said.append), [0]).restore() is None
        assert "is missing or damaged" in said[0]

    @pytest.mark.parametrize("content", INVALID, ids=range(len(INVALID)))
    def test_a_file_that_is_no_checkpoint_is_damaged_though_its_hash_is_right(
        self, database: Database, folder: Folder, content: bytes
    ) -> None:
        store = opened(database, folder)
        train(store, [0, 1], keep=[1, 2]).end()
        store.flush()
        deepest = follow(store, [0, 1]).node
        [file] = [file for file in files(folder) if file.name.startswith(deepest)]
        file.write_bytes(content)
        with database.engine.begin() as connection:
            connection.execute(
                text("UPDATE schedsearch_checkpoints SET bytes = :b, sha256 = :s WHERE hash = :h"),
                {"b": len(content), "s": sha256(content).hexdigest(), "h": deepest},
            )
        said: list[str] = []
        reader = opened(database, folder, said.append)
        assert same(follow(reader, [0, 1]).restore(), snapshot([0]))
        assert len(said) == 1
        assert not file.exists()

    def test_a_checkpoint_of_another_epoch_is_damaged(
        self, database: Database, folder: Folder
    ) -> None:
        store = opened(database, folder)
        cursor = train(store, [0])
        content = encode(snapshot([0] * 10**4))
        assert content is not None
        store.save_checkpoint(cursor.node, cursor.run, content)
        store.flush()
        assert follow(opened(database, folder), [0]).restore() is None

    @pytest.mark.parametrize(
        "result", ["", "[]", "7", "[1, 2]", '[{"a": []}, {}]', "[" * 50_000, '[{"a": "b"}, {}]']
    )
    def test_a_result_that_is_none_is_an_error_in_one_line(
        self, database: Database, folder: Folder, result: str
    ) -> None:
        kept(opened(database, folder), [0])
        with database.engine.begin() as connection:
            connection.execute(text("UPDATE schedsearch_nodes SET result = :r"), {"r": result})
        with pytest.raises(StorageError, match="the database is damaged: its result of epoch"):
            follow(opened(database, folder), [0])
