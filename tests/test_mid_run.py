"""Reading, exporting or copying a study during its search gives a consistent study."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import optuna
import pytest
from sqlalchemy.engine import make_url

from schedsearch.report.status import read_status
from schedsearch.space import Space
from schedsearch.storage import open_database, open_study
from tests.searches import begin, document, train_slowly, work, write_space
from tests.servers import Servers, program

TRIALS = 60


@pytest.mark.long
def test_what_is_taken_from_a_running_search_is_whole(database_url, servers, tmp_path):
    write_space(tmp_path, document(train_slowly, trials=TRIALS))
    storage = {"SCHEDSEARCH_STORAGE": database_url}
    search = begin("start", "small.toml", "--workers", 2, folder=tmp_path, **storage)
    statuses, copies = [], []
    with search, ExitStack() as dropped:
        while search.poll() is None:
            status = read("status", "--json", folder=tmp_path, **storage)
            if status is None or not status["trials"]["complete"]:
                continue
            statuses.append(status)
            copies.append(copy(database_url, servers, tmp_path / f"copy{len(copies)}", dropped))
            exported = tmp_path / "exported.toml"
            done = begin("export", "small", "-o", exported, folder=tmp_path, **storage)
            _, said = done.communicate()
            assert done.returncode == 0, said
            assert Space.load(exported).plan()
        assert search.returncode == 0, search.stderr.read()
        assert any(status["state"] == "running" for status in statuses)
        for before, after in pairwise(statuses):
            assert before["trial_epochs"] <= after["trial_epochs"]
            assert before["best"]["value"] >= after["best"]["value"]
        for status in statuses:
            check(status)
        for url in copies:
            study = open_study(open_database(url), "small")
            check(read_status(study).to_json())
            assert [trial.number for trial in study.rows()] == list(range(len(study.rows())))
            assert all(len(trial.intermediate_values) == 9 for trial in study.complete_trials())
            assert len(optuna.load_study(study_name="small", storage=url).trials) > 0
        # A copy has no workers: the trials that they had begun are queued again.
        study = open_study(open_database(copies[0]), "small")
        for worker in {t.user_attrs["worker"] for t in study.trials() if "worker" in t.user_attrs}:
            study.queue.requeue_trials_of(worker)
        work(study)
        assert study.queue.counts().finished == study.queue.counts().trials == TRIALS


def read(*arguments, folder, **environment):
    done = begin(*arguments, folder=folder, **environment)
    out, _ = done.communicate()
    return json.loads(out) if done.returncode == 0 else None


def copy(url: str, servers: Servers, file: Path, dropped: ExitStack) -> str:
    """Copy a database by its own tool, as docs/copies.md says, and return where the copy is."""
    source = make_url(url)
    if source.get_backend_name() == "sqlite":
        with sqlite3.connect(source.database or "") as connection:
            connection.execute("VACUUM INTO ?", (str(file),))
        connection.close()
        with sqlite3.connect(file) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        return f"sqlite:///{file}"
    target = make_url(dropped.enter_context(servers.database(source.get_backend_name())))
    if source.get_backend_name() == "postgresql":
        ours, theirs = (
            made.set(drivername="postgresql").render_as_string(hide_password=False)
            for made in (source, target)
        )
        tool("pg_dump", "--format", "custom", "--file", file, ours)
        tool("pg_restore", "--dbname", theirs, file)
    else:
        server = ["--protocol=tcp", f"--host={source.host}", f"--port={source.port}"]
        given = {"MYSQL_PWD": source.password or ""}
        named = [*server, f"--user={source.username}"]
        tool("mariadb-dump", *named, "--single-transaction", source.database, out=file, **given)
        tool("mariadb", *named, target.database, into=file, **given)
    return target.render_as_string(hide_password=False)


def tool(
    name: str,
    *arguments: object,
    into: Path | None = None,
    out: Path | None = None,
    **environment: str,
) -> None:
    """Run a program of a database's, with files for its input and its output."""
    with ExitStack() as closed:
        subprocess.run(
            [program(name), *map(str, arguments)],
            env=os.environ | environment,
            stdin=closed.enter_context(into.open()) if into else None,
            stdout=closed.enter_context(out.open("w")) if out else None,
            check=True,
        )


def check(status):
    trials = status["trials"]
    ended = trials["complete"] + trials["pruned"] + trials["failed"]
    assert ended + trials["running"] + trials["waiting"] <= trials["total"] == TRIALS
    assert trials["diverged"] <= trials["pruned"]
    assert status["trial_epochs"] <= 9 * (ended + trials["running"])
    assert (status["state"] == "done") == (ended == TRIALS)
    assert (status["best"] is not None) == (trials["complete"] > 0)
