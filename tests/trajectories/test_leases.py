"""Leases: no two runs train one node, and a lease ends when its run does."""

from __future__ import annotations

from schedsearch.storage import Database
from schedsearch.trajectories import Folder
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


def test_a_renewed_lease_is_not_expired(database: Database, folder: Folder) -> None:
    slow, other = opened(database, folder, lease_seconds=0.0), opened(database, folder)
    run = slow.cursor(ROOT)
    slow.lease({run: key(0)})
    slow.leases.seconds = 60.0
    slow.renew()
    assert other.lease({other.cursor(ROOT): key(0)}) == set()
