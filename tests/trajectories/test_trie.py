"""Every trained epoch is found by any worker, and only by equal runs."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from schedsearch.engines import EpochResult
from schedsearch.storage import Database
from schedsearch.storage.clock import database_time
from schedsearch.trajectories import Folder, child_hash, nodes, root_hash
from tests.trajectories.stores import ROOT, follow, key, opened, result, train

_PATHS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=8)
_on_one_database = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def unused_root() -> str:
    return root_hash(secrets.token_hex(16), 0, {})


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """Collect the queries that are made."""
    made: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("SELECT"):
            made.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield made
    event.remove(database.engine, "before_cursor_execute", note)


class TestHashes:
    def test_the_order_of_numerics_does_not_matter(self) -> None:
        assert root_hash("f", 0, {"a": 1, "b": 2}) == root_hash("f", 0, {"b": 2, "a": 1})

    @pytest.mark.parametrize(
        "other",
        [
            root_hash("other", 0, {"threads": 1}),
            root_hash("fingerprint", 1, {"threads": 1}),
            root_hash("fingerprint", 0, {"threads": 2}),
            root_hash("fingerprint", 0, {"threads": 1}, horizon=60),
        ],
    )
    def test_everything_that_changes_bits_gives_another_root(
        self, database: Database, folder: Folder, other: str
    ) -> None:
        store = opened(database, folder)
        train(store, [1, 2])
        assert store.cursor(other).find(key(1)) is None

    def test_a_node_depends_on_all_values_on_its_path(self) -> None:
        def name(*values: int) -> str:
            at = ROOT
            for value in values:
                at = child_hash(at, key(value))
            return at

        assert len({name(1, 2), name(2, 1), name(1), name(2), name(1, 2, 0)}) == 5


class TestReplay:
    @_on_one_database
    @given(_PATHS, st.data())
    def test_every_path_returns_the_results_that_were_added(
        self, database: Database, folder: Folder, paths: list[list[int]], data: st.DataObject
    ) -> None:
        """Whichever workers trained its parts, in whichever order."""
        root = unused_root()
        stores = [opened(database, folder), opened(database, folder)]
        for path in paths:
            store = stores[data.draw(st.integers(0, 1))]
            train(store, path, root=root)
            if data.draw(st.booleans()):
                store.flush()
        for store in stores:
            store.flush()
        reader = opened(database, folder)
        for path in paths:
            assert follow(reader, path, root).epoch == len(path)
            assert follow(reader, [*path, 3], root).epoch == len(path)

    @_on_one_database
    @given(st.lists(st.floats(), min_size=1, max_size=4))
    def test_every_number_is_preserved_bit_for_bit(
        self, database: Database, folder: Folder, numbers: list[float]
    ) -> None:
        metrics = {str(i): number for i, number in enumerate(numbers)}
        root = unused_root()
        store = opened(database, folder)
        store.cursor(root).add(key(0), EpochResult(metrics, {}))
        store.flush()
        found = opened(database, folder).cursor(root).find(key(0))
        assert found is not None
        for back, number in zip(found.metrics.values(), numbers, strict=True):
            assert back == number or (math.isnan(back) and math.isnan(number))
            assert math.copysign(1, back) == math.copysign(1, number) or math.isnan(number)

    def test_a_path_takes_one_query_per_training_that_it_follows(
        self, database: Database, folder: Folder
    ) -> None:
        writer = opened(database, folder)
        train(writer, [0] * 60)
        train(writer, [0] * 20 + [1] * 40)
        train(writer, [0] * 20 + [1] * 20 + [2] * 20)
        writer.flush()
        reader = opened(database, folder)
        with statements(database) as made:
            assert follow(reader, [0] * 20 + [1] * 20 + [2] * 20).epoch == 60
        assert len(made) == 3

    def test_the_older_half_of_a_full_cache_is_read_again(
        self, database: Database, folder: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(nodes, "_CACHE_SIZE", 10)
        store = opened(database, folder)
        cursor = train(store, [0] * 11)
        store.flush()
        with statements(database) as made:
            assert store.nodes.find(cursor.path[-1]) is not None
        assert made == []
        with statements(database) as made:
            assert store.nodes.find(cursor.path[1]) is not None
        assert len(made) == 1

    def test_pending_nodes_are_found_by_the_same_worker_only(
        self, database: Database, folder: Folder
    ) -> None:
        mine, others = opened(database, folder), opened(database, folder)
        train(mine, [1, 2])
        assert follow(mine, [1, 2]).epoch == 2
        assert follow(others, [1, 2]).epoch == 0
        mine.flush()
        assert follow(others, [1, 2]).epoch == 2

    def test_the_first_of_two_trainings_of_a_node_is_kept(
        self, database: Database, folder: Folder
    ) -> None:
        first, second = opened(database, folder), opened(database, folder)
        first.cursor(ROOT).add(key(0), result([0]))
        second.cursor(ROOT).add(key(0), result([9]))
        first.flush()
        second.flush()
        assert follow(opened(database, folder), [0]).epoch == 1

    def test_a_transaction_that_fails_loses_nothing(
        self, database: Database, folder: Folder
    ) -> None:
        store = opened(database, folder)
        cursor = train(store, [1, 2], keep=[2])
        with database.engine.connect() as connection, connection.begin() as transaction:
            store.write(connection, database_time(connection))
            transaction.rollback()
        assert follow(opened(database, folder), [1, 2]).epoch == 0
        cursor.add(key(3), result([1, 2, 3]))
        store.flush()
        reader = follow(opened(database, folder), [1, 2, 3])
        assert reader.epoch == 3
        assert reader.restore() is not None
