"""Leases: no two runs train one node, and a lease ends when its run does."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, select, update

from schedsearch.storage import Database
from schedsearch.storage.clock import database_time
from schedsearch.storage.tables import trials
from schedsearch.trajectories import Folder
from schedsearch.trajectories.tables import leases
from tests.trajectories.stores import ROOT, follow, key, opened, result, train


def test_a_node_is_leased_to_one_run_of_any_worker(database: Database, folder: Folder) -> None:
    mine, others = opened(database, folder), opened(database, folder)
    first, twin, other = mine.cursor(ROOT), mine.cursor(ROOT), others.cursor(ROOT)
    assert len(mine.lease({first: key(0), twin: key(0)})) == 1
    assert others.lease({other: key(0)}) == set()
    assert others.lease({other: key(1)}) == {other}


def test_a_run_that_waited_finds_the_trained_node(database: Database, folder: Folder) -> None:
    mine, others = opened(database, folder), opened(database, folder)
    training, waiting = mine.cursor(ROOT), others.cursor(ROOT)
    mine.lease({training: key(0)})
    assert others.lease({waiting: key(0)}) == set()
    training.add(key(0), result([0]))
    mine.flush()
    assert others.lease({waiting: key(0)}) == set()  # the node has been trained
    assert waiting.find(key(0)) == result([0])
    assert others.lease({waiting: key(0)}) == {waiting}


def test_a_requested_lease_is_granted_with_the_write(database: Database, folder: Folder) -> None:
    mine, others = opened(database, folder), opened(database, folder)
    first, second = train(mine, [0]), follow(mine, [0])
    first.request_lease(key(1))
    second.request_lease(key(1))
    mine.flush()
    assert len(mine.lease({first: key(1), second: key(1)})) == 1
    other = follow(others, [0])
    assert others.lease({other: key(1)}) == set()


def test_a_run_that_leases_another_node_releases_the_first(
    database: Database, folder: Folder
) -> None:
    mine, others = opened(database, folder), opened(database, folder)
    run, other = mine.cursor(ROOT), others.cursor(ROOT)
    mine.lease({run: key(0)})
    mine.lease({run: key(1)})
    assert others.lease({other: key(0)}) == {other}


def test_an_ended_run_releases_its_lease(database: Database, folder: Folder) -> None:
    mine, others = opened(database, folder), opened(database, folder)
    run, other = mine.cursor(ROOT), others.cursor(ROOT)
    mine.lease({run: key(0)})
    run.end()
    mine.flush()
    assert others.lease({other: key(0)}) == {other}


def test_an_expired_lease_is_taken_over(database: Database, folder: Folder) -> None:
    dead, alive = opened(database, folder, lease_seconds=0.0), opened(database, folder)
    lost, successor = dead.cursor(ROOT), alive.cursor(ROOT)
    dead.lease({lost: key(0)})
    assert alive.lease({successor: key(0)}) == {successor}
    third = opened(database, folder)
    assert third.lease({third.cursor(ROOT): key(0)}) == set()


def test_a_lease_that_ends_later_than_any_lease_can_is_taken_over(
    database: Database, folder: Folder
) -> None:
    first, second = opened(database, folder), opened(database, folder)
    first.lease({first.cursor(ROOT): key(0)})
    with database.engine.begin() as connection:
        connection.execute(update(leases).values(expires=1e18))
    successor = second.cursor(ROOT)
    assert second.lease({successor: key(0)}) == {successor}


@pytest.mark.parametrize("ended", ["COMPLETE", "PRUNED", "FAIL", "WAITING"])
def test_a_lease_is_taken_over_once_its_trial_is_not_in_training(
    database: Database, folder: Folder, ended: str
) -> None:
    dead, alive = opened(database, folder), opened(database, folder)
    with database.engine.begin() as connection:
        row = insert(trials).values(number=0, state="RUNNING")
        [trial_id] = connection.execute(row).inserted_primary_key
    lost, successor = dead.cursor(ROOT, trial_id), alive.cursor(ROOT, trial_id + 1)
    other, unknown = alive.cursor(ROOT), alive.cursor(ROOT)
    assert dead.lease({lost: key(0)}) == {lost}
    assert dead.lease({unknown: key(1)}) == {unknown}
    assert alive.lease({successor: key(0)}) == set()
    with database.engine.begin() as connection:
        connection.execute(update(trials).values(state=ended))
    assert alive.lease({successor: key(0), other: key(1)}) == {successor}
    assert dead.lease({dead.cursor(ROOT): key(0)}) == set()


def test_several_leases_of_ended_trials_are_taken_over_together(
    database: Database, folder: Folder
) -> None:
    dead, alive = opened(database, folder), opened(database, folder)
    with database.engine.begin() as connection:
        rows = [insert(trials).values(number=number, state="FAIL") for number in range(3)]
        ids = [connection.execute(row).inserted_primary_key[0] for row in rows]
    lost = [dead.cursor(ROOT, trial_id) for trial_id in ids]
    assert dead.lease({run: key(value) for value, run in enumerate(lost)}) == {*lost}
    lost[0].add(key(0), result([0]))
    dead.flush()
    heirs = {alive.cursor(ROOT): key(value) for value in range(3)}
    assert alive.lease(heirs) == {heir for heir, node in heirs.items() if node != key(0)}


def test_a_worker_does_not_take_over_the_leases_of_its_own_runs(
    database: Database, folder: Folder
) -> None:
    store = opened(database, folder)
    with database.engine.begin() as connection:
        row = insert(trials).values(number=0, state="FAIL")
        [trial_id] = connection.execute(row).inserted_primary_key
    assert len(store.lease({store.cursor(ROOT, trial_id): key(0)})) == 1
    assert store.lease({store.cursor(ROOT): key(0)}) == set()


def test_a_lease_of_a_run_with_a_strange_name_is_kept(database: Database, folder: Folder) -> None:
    first, second = opened(database, folder), opened(database, folder)
    first.lease({first.cursor(ROOT): key(0)})
    with database.engine.begin() as connection:
        connection.execute(update(leases).values(run="no digits"))
    assert second.lease({second.cursor(ROOT): key(0)}) == set()


def test_a_renewed_lease_is_not_expired(database: Database, folder: Folder) -> None:
    slow, other = opened(database, folder, lease_seconds=0.0), opened(database, folder)
    run = slow.cursor(ROOT)
    slow.lease({run: key(0)})
    slow.leases.seconds = 60.0
    slow.renew()
    assert other.lease({other.cursor(ROOT): key(0)}) == set()


def test_a_trained_node_leaves_no_lease_behind(database: Database, folder: Folder) -> None:
    store = opened(database, folder)
    run = store.cursor(ROOT)
    store.lease({run: key(0)})
    run.add(key(0), result([0]))
    store.flush()
    with database.engine.connect() as connection:
        assert connection.execute(select(leases)).all() == []


def test_a_lease_of_a_transaction_that_failed_is_not_held(
    database: Database, folder: Folder
) -> None:
    mine, others = opened(database, folder), opened(database, folder)
    run, other = mine.cursor(ROOT), others.cursor(ROOT)
    run.request_lease(key(0))
    with database.engine.connect() as connection, connection.begin() as transaction:
        mine.write(connection, database_time(connection))
        transaction.rollback()
    assert others.lease({other: key(0)}) == {other}
    mine.flush()
    assert not run.has_lease(key(0))
    assert mine.lease({run: key(0)}) == set()
