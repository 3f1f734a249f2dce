"""How often a worker waits for the server in a round without a decision."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from schedsearch.storage import BatchedStorage, StudyHandle
from schedsearch.trajectories import Folder
from tests.network import Network
from tests.servers import SERVERS, Servers, execute
from tests.storage.studies import study_at
from tests.trajectories.stores import ROOT, key, opened, result

#: After so many executions the driver has prepared the statements.
WARM = 8


@pytest.fixture
def network(backend: str, servers: Servers) -> Iterator[Network]:
    try:
        found = Network(servers.server(backend).port)
    except FileNotFoundError as error:
        pytest.skip(f"NOT TESTED on {backend}: this machine has no {error}")
    yield found
    found.cut()


@pytest.fixture
def study(database_url: str, network: Network) -> StudyHandle:
    study_at(database_url)
    far = make_url(database_url).set(host="127.0.0.1", port=network.port)
    return study_at(far.render_as_string(hide_password=False))


@pytest.fixture
def storage(study: StudyHandle) -> BatchedStorage:
    return BatchedStorage(study.database)


def claim(storage: BatchedStorage, study: StudyHandle, count: int) -> list[int]:
    with storage.batch(study.study_id, "ann") as batch:
        batch.claim(count)
    return batch.claimed


@pytest.mark.parametrize("backend", SERVERS)
@pytest.mark.parametrize("lanes", [1, 32])
def test_a_round_that_only_reports_waits_three_times_at_most(study, storage, network, lanes):
    trial_ids, waits = claim(storage, study, lanes), list[int]()
    for step in range(1, WARM + 1):
        before = network.round_trips
        storage.expire(study.study_id)
        with storage.batch(study.study_id, "ann"):
            for trial_id in trial_ids:
                storage.set_trial_intermediate_value(trial_id, step, step / 10)
        waits.append(network.round_trips - before)
    assert waits[-1] <= 3
    assert study.queue.counts().epochs == WARM * lanes


@pytest.mark.parametrize("backend", ["postgresql"])
def test_so_does_one_that_caches_epochs_too(study, storage, network, tmp_path):
    [trial_id], waits = claim(storage, study, 1), list[int]()
    store = opened(study.database, Folder(tmp_path))
    cursor, path = store.cursor(ROOT), list[int]()
    for step in range(1, WARM + 1):
        path.append(step)
        before = network.round_trips
        with storage.batch(study.study_id, "ann") as batch:
            storage.set_trial_intermediate_value(trial_id, step, step / 10)
            cursor.add(key(step), result(path))
            cursor.request_lease(key(step + 1))
            batch.add_write(store.write, store.mark_committed)
        waits.append(network.round_trips - before)
        assert cursor.has_lease(key(step + 1))
    assert waits[-1] <= 3


@pytest.mark.parametrize("backend", ["postgresql"])
def test_the_server_sees_a_transaction_between_two_statements_as_idle(study, storage):
    """So it ends the transaction of a worker that is suspended there, and releases the locks."""
    [trial_id], states = claim(storage, study, 1), list[object]()
    locked = (
        "SELECT pid FROM pg_locks WHERE relation = 'trials'::regclass AND mode = 'RowShareLock'"
    )
    query = f"SELECT state FROM pg_stat_activity WHERE pid IN ({locked})"

    def look(connection: Connection, moment: float) -> None:
        states.extend(row[0] for row in execute(study.database.url, query))

    for step in range(WARM):
        with storage.batch(study.study_id, "ann") as batch:
            storage.set_trial_intermediate_value(trial_id, step, 0.5)
            batch.add_write(look, lambda: None)
    assert states == ["idle in transaction"] * WARM
