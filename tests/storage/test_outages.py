"""Servers that stop and come back, and connections that are cut: nothing is lost, nobody dies."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from optuna.trial import TrialState
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from schedsearch.storage import Database, RoundStorage, StudyHandle, open_database, open_study
from schedsearch.storage.outages import Outages
from tests.searches import begin, document, train_slowly, wait_until, write_space
from tests.servers import Server, empty_database, execute, own_server
from tests.storage.studies import study_at

SERVERS = pytest.mark.parametrize("backend", ["postgresql", "mysql"])
#: Seconds that the server is away while a search goes on.
AWAY = 30.0


@pytest.fixture
def server(backend: str) -> Iterator[Server]:
    try:
        found = own_server(backend)
    except FileNotFoundError as error:
        pytest.skip(f"NOT TESTED on {backend}: this machine has no {error}")
    yield found
    found.end()


def reports(database: Database) -> list[tuple[object, ...]]:
    rows = "SELECT trial_id, step, intermediate_value FROM trial_intermediate_values"
    return execute(database.url, rows)


@pytest.mark.long
@SERVERS
def test_a_search_waits_for_a_server_that_is_away_and_loses_nothing(server, tmp_path):
    content = document(train_slowly, trials=6, pruner={"name": "none"})
    space = write_space(tmp_path, content | {"horizon": 1500})
    with empty_database(server.url) as url:
        search = begin("start", space, "--workers", 2, folder=tmp_path, SCHEDSEARCH_STORAGE=url)
        wait_until(lambda: len(_reports_at(url)) > 20)
        before = set(_reports_at(url))
        server.stop()
        time.sleep(AWAY)
        assert search.poll() is None
        server.start()
        wait_until(lambda: len(_reports_at(url)) > len(before) + 20)
        assert before <= set(_reports_at(url))
        search.send_signal(signal.SIGTERM)
        _, said = search.communicate(timeout=60)
        trials = open_study(open_database(url), "small").load().trials
    assert search.returncode == 130
    assert len(re.findall("does not answer: waiting", said)) >= 1
    assert "answers again" in said
    assert "Traceback" not in said
    assert "s3cret" not in said
    running = [trial for trial in trials if trial.state is TrialState.RUNNING]
    assert running == []
    # Nobody was taken for dead meanwhile: each of the two was handed back once, at the end.
    assert sum("superseded_by" in trial.user_attrs for trial in trials) == 2


def _reports_at(url: str) -> list[tuple[object, ...]]:
    try:
        rows = "SELECT trial_id, step, intermediate_value FROM trial_intermediate_values"
        return execute(url, rows)
    except Exception:  # the tables are not there yet
        return []
