"""What is read, exported or copied while a search goes on is whole, and a search in itself."""

from __future__ import annotations

import json
import sqlite3
from itertools import pairwise

import pytest

from schedsearch.report.status import read_status
from schedsearch.space import Space
from schedsearch.storage import open_database, open_study
from tests.searches import begin, document, train_slowly, work, write_space

TRIALS = 120


@pytest.mark.long
def test_what_is_taken_from_a_running_search_is_whole(tmp_path):
    write_space(tmp_path, document(train_slowly, trials=TRIALS))
    database = tmp_path / "studies.db"
    search = begin("start", "small.toml", "--workers", 2, folder=tmp_path)
    statuses, copies = [], []
    with search:
        while search.poll() is None:
            status = read(tmp_path, "status", "--json") if database.exists() else None
            if status is None or not status["trials"]["complete"]:
                continue
            statuses.append(status)
            copies.append(tmp_path / f"copy{len(copies)}.db")
            copy(database, copies[-1])
            exported = tmp_path / "exported.toml"
            done = begin("export", "small", "-o", exported, folder=tmp_path)
            _, said = done.communicate()
            assert done.returncode == 0, said
            assert Space.load(exported).plan()
    assert search.returncode == 0
    assert any(status["state"] == "running" for status in statuses)
    for before, after in pairwise(statuses):
        assert before["trial_epochs"] <= after["trial_epochs"]
        assert before["best"]["value"] >= after["best"]["value"]
    for status in statuses:
        check(status)
    for path in copies:
        study = open_study(open_database(f"sqlite:///{path}"), "small")
        check(read_status(study).to_json())
        assert [trial.number for trial in study.rows()] == list(range(len(study.rows())))
        assert all(len(trial.intermediate_values) == 9 for trial in study.complete())
    # The workers of a copy are not there: what they had begun is queued anew.
    study = open_study(open_database(f"sqlite:///{copies[0]}"), "small")
    for worker in {t.user_attrs["worker"] for t in study.trials() if "worker" in t.user_attrs}:
        study.queue.hand_back_all_of(worker)
    work(study)
    assert study.queue.counts().finished == study.queue.counts().chains == TRIALS


def read(folder, *arguments):
    done = begin(*arguments, folder=folder)
    out, _ = done.communicate()
    return json.loads(out) if done.returncode == 0 else None


def copy(database, path):
    with sqlite3.connect(database) as connection:
        connection.execute("VACUUM INTO ?", (str(path),))
    connection.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def check(status):
    trials = status["trials"]
    ended = trials["complete"] + trials["pruned"] + trials["failed"]
    assert ended + trials["running"] + trials["waiting"] <= trials["total"] == TRIALS
    assert trials["diverged"] <= trials["pruned"]
    assert status["trial_epochs"] <= 9 * (ended + trials["running"])
    assert (status["state"] == "done") == (ended == TRIALS)
    assert (status["best"] is not None) == (trials["complete"] > 0)
