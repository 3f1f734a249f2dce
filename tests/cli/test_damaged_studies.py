"""Studies whose attributes are not what a worker writes: a database may come from a stranger."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from io import BytesIO
from pathlib import Path

import pytest

from schedsearch.confirmation.confirm import prepare_confirmation
from schedsearch.report.dashboard import ThreadSafeStorage, make_app
from schedsearch.report.dashboard_artifacts import DashboardArtifacts, picture_store
from schedsearch.storage import open_database
from schedsearch.storage.attribute_rules import STUDY_RULES
from schedsearch.storage.attributes import CONDITIONS, CONFIRMATION_RESULT
from tests.cli.command import Command
from tests.searches import document, make_study, url_of, work

#: JSON texts of other shapes than any attribute has, or of values out of any range.
WRONG = (
    "null",
    "true",
    "-1",
    "0",
    "1e308",
    "NaN",
    str(10**30),
    "1" * 5000,
    '"x"',
    '"\\u001b[31m\\nerror: x"',
    "[]",
    "[1]",
    '[{"a": 1}]',
    "{}",
    '{"a": 1}',
    '{"a": {"b": [null]}}',
    '{"hyperparameters": {"lr": {"families": 5}}, "groups": []}',
    "[" * 900 + "]" * 900,
    "[" * 100_000,
    "{not json",
    "",
)
STUDY_ATTRIBUTES = (*STUDY_RULES, CONFIRMATION_RESULT, CONDITIONS)
COMMANDS = (
    ("status", "small"),
    ("status", "small", "--plot"),
    ("status", "small", "--json"),
    ("list", "--json"),
    ("export", "small"),
    ("export", "small", "--trial", 1),
    ("export", "small", "-o", "best.toml"),
    ("plot", "small", "-o", "out.svg"),
    ("plot", "small/1", "-o", "out.svg"),
    ("plot", "small/confirmation", "-o", "out.svg"),
    ("plot", "small/1", "--attach"),
    ("confirm", "small", "--top", 1, "--seeds", 6, "--workers", 0),
    ("status", "small:confirm"),
    ("worker", "small"),
    ("start", "small.toml", "--workers", 0),
    ("start", "small", "--horizon", 12, "--workers", 0),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with a finished study that was confirmed, and a second study."""
    folder = tmp_path_factory.mktemp("finished")
    study = make_study(folder, document(trials=12))
    make_study(folder, {**document(), "name": "other"})
    work(study, best_trial_callback=DashboardArtifacts(study))
    confirmation = prepare_confirmation(study, top=1, seeds=6)
    work(confirmation.study)
    confirmation.judge()
    (folder / "small.toml").write_text(json_to_toml(document(trials=12)))
    return folder


def json_to_toml(content) -> str:
    import tomli_w

    return tomli_w.dumps(content)


@pytest.fixture
def folder(tmp_path, finished, monkeypatch) -> Path:
    target = tmp_path / "here"
    shutil.copytree(finished, target)
    monkeypatch.chdir(target)
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(target))
    return target


@pytest.fixture
def command(monkeypatch, capsys) -> Command:
    return Command(monkeypatch, capsys)


def change(folder: Path, statement: str, *values: object) -> int:
    connection = sqlite3.connect(folder / "studies.db")
    with connection:
        changed = connection.execute(statement, values).rowcount
    connection.close()
    return changed


def damage_study(folder: Path, key: str, text: str, study: str = "small") -> None:
    ids = "(SELECT study_id FROM studies WHERE study_name = ?)"
    update = f"UPDATE study_user_attributes SET value_json = ? WHERE key = ? AND study_id = {ids}"
    if not change(folder, update, text, key, study):
        insert = (
            f"INSERT INTO study_user_attributes (value_json, key, study_id) VALUES (?, ?, {ids})"
        )
        change(folder, insert, text, key, study)


def damage_trial(folder: Path, key: str, text: str, number: int = 1, study: str = "small") -> None:
    ids = (
        "(SELECT trial_id FROM trials JOIN studies USING (study_id) "
        "WHERE study_name = ? AND number = ?)"
    )
    update = f"UPDATE trial_user_attributes SET value_json = ? WHERE key = ? AND trial_id = {ids}"
    if not change(folder, update, text, key, study, number):
        insert = (
            f"INSERT INTO trial_user_attributes (value_json, key, trial_id) VALUES (?, ?, {ids})"
        )
        change(folder, insert, text, key, study, number)


def check(done, line: object) -> None:
    """Check that a command succeeded, or that it said in a few lines what is wrong."""
    assert done.status in (0, 1, 2), (line, done)
    assert "Traceback" not in done.err + done.out, (line, done)
    assert "unexpected:" not in done.err, (line, done)
    assert "\x1b" not in done.err + done.out, (line, done)
    if done.status:
        assert 0 < len(done.err.splitlines()) <= 4, (line, done)
        assert max(map(len, done.err.splitlines())) < 500, (line, done)


def check_commands(folder: Path, command: Command, lines=COMMANDS) -> None:
    for line in lines:
        check(command(*line), line)
    done = command("list")
    assert done.status == 0, done
    assert "other  stopped" in done.out, done
    check_dashboard(folder)
    done = command("delete", "small", "--yes")
    assert done.status == 0, done
    assert "small  " not in command("list").out


def check_dashboard(folder: Path) -> None:
    """Check that the pages of the dashboard answer, and without a traceback."""
    database = open_database(url_of(folder))
    warnings: list[str] = []
    app = make_app(
        ThreadSafeStorage(database),
        picture_store(database),
        "localhost",
        allow_edit=False,
        warn=warnings.append,
    )
    for path in ("/api/studies", "/api/studies/1", "/api/studies/2", "/csv/1", "/dashboard"):
        status, body = get(app, path)
        assert status in (200, 404, 500), (path, body)
        assert b"Traceback" not in body, (path, body)
        assert status == 200 or len(body.splitlines()) == 1, (path, body)
    assert all(line.isprintable() for line in warnings)


def get(app, path: str) -> tuple[int, bytes]:
    statuses = []
    path, _, query = path.partition("?")
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "HTTP_HOST": "localhost",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.input": BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
    }
    body = app(environ, lambda status, headers, exc_info=None: statuses.append(status))
    content = b"".join(body)
    if hasattr(body, "close"):
        body.close()
    return int(statuses[-1].split()[0]), content


@pytest.mark.long
@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:20])
@pytest.mark.parametrize("key", STUDY_ATTRIBUTES)
def test_no_command_trusts_an_attribute_of_a_study(folder, command, key, text):
    damage_study(folder, key, text)
    check_commands(folder, command)
