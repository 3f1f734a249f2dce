"""Studies whose attributes are not what a worker writes: a database may come from a stranger."""

from __future__ import annotations

import gc
import shutil
import sqlite3
import sys
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

from schedsearch.confirmation.confirm import prepare_confirmation
from schedsearch.errors import DamagedStudyError
from schedsearch.extension import extend_study
from schedsearch.printable import printable_line
from schedsearch.report.dashboard import ThreadSafeStorage, make_app
from schedsearch.report.dashboard_artifacts import DashboardArtifacts, picture_store
from schedsearch.storage import open_database
from schedsearch.storage.attribute_rules import STUDY_RULES, TRIAL_RULES, parse_attribute
from schedsearch.storage.attributes import (
    CONDITIONS,
    CONFIRMATION_RESULT,
    CONFIRMS,
    FROM_STUDY,
)
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


@pytest.fixture(autouse=True)
def no_garbage_is_collected_within_a_deep_recursion():
    """Collect garbage between tests only: at the limit of the recursion no finalizer can run."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


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
    extend_study(study, horizon=12, top=1, stretch=False, store=None)
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


@dataclass(frozen=True)
class Attribute:
    """An attribute of a study, or of one of its trials."""

    study: str
    key: str
    trial: int | None = None

    def __str__(self) -> str:
        place = f"study `{self.study}`" + ("" if self.trial is None else f", trial {self.trial}")
        return f"{place}: the attribute `{self.key}` is "

    def wrong_texts(self) -> list[str]:
        """Return the texts that its rule does not allow; all if another module has its rule."""
        return [text for text in WRONG if not self._is_valid(text)]

    def _is_valid(self, text: str) -> bool:
        try:
            self.parse(text)
        except DamagedStudyError:
            return False
        return self.key not in (CONFIRMATION_RESULT, CONDITIONS, "space")

    def parse(self, text: str) -> object:
        rules = STUDY_RULES if self.trial is None else TRIAL_RULES
        return parse_attribute(text, rules, self.key, study=self.study, trial=self.trial)

    def damage(self, folder: Path, text: str) -> None:
        """Set the attribute to a JSON text."""
        owner, ids = "study", f"(SELECT study_id FROM studies WHERE study_name = '{self.study}')"
        if self.trial is not None:
            owner = "trial"
            of_trial = f"number = {self.trial} AND study_id = {ids}"
            ids = f"(SELECT trial_id FROM trials WHERE {of_trial})"
        table = f"{owner}_user_attributes"
        update = f"UPDATE {table} SET value_json = ? WHERE key = ? AND {owner}_id = {ids}"
        if not change(folder, update, text, self.key):
            insert = f"INSERT INTO {table} (value_json, key, {owner}_id) VALUES (?, ?, {ids})"
            change(folder, insert, text, self.key)


OF_TRIAL_1 = [Attribute("small", key, trial=1) for key in TRIAL_RULES]
#: The searched study, the study that extends it, and the study that confirms it.
ATTRIBUTES = [
    *(
        Attribute("small", f"{key}_0" if key == FROM_STUDY else key)
        for key in (*STUDY_RULES, CONFIRMATION_RESULT)
        if key != "stretched"
    ),
    *OF_TRIAL_1,
    *(Attribute("small@12", key) for key in ("stretched", "space")),
    *(Attribute("small:confirm", key) for key in (CONFIRMS, "trials", "space")),
    *(Attribute("small:confirm", key, trial=1) for key in ("plan", "validation", "test")),
]
by_attribute = pytest.mark.parametrize("attribute", ATTRIBUTES, ids=str)


def error_of(done) -> str:
    """Return the error of a command, which is one line, and the last one except for a hint."""
    # Python prints this without a line break if a finalizer runs while JSON recurses too deep.
    lines = done.err.replace("Exception ignored in sys.unraisablehook", "").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[0].removeprefix("error: ") if len(errors) == 1 else ""


def check(done, line: object) -> None:
    """Check that a command succeeded, or that it said in one line what is wrong."""
    assert done.status in (0, 1, 2), (line, done)
    assert "Traceback" not in done.err + done.out, (line, done)
    assert "unexpected:" not in done.err, (line, done)
    assert "\x1b" not in done.err + done.out, (line, done)
    if done.status:
        assert error_of(done), (line, done)
        assert max(map(len, done.err.splitlines())) < 500, (line, done)


def check_commands(folder: Path, command: Command, lines=COMMANDS) -> list[str]:
    """Run commands, and return the errors of those that found the study damaged."""
    found = []
    for line in lines:
        done = command(*line)
        check(done, line)
        if done.status == 1:
            found.append(error_of(done))
    return found


def check_list_and_delete(folder: Path, command: Command, study: str = "small") -> None:
    """Check that a damaged study is listed beside another one, and can be deleted."""
    done = command("list")
    check(done, "list")
    assert (done.status, "other  stopped" in done.out) == (0, True), done
    assert f"{study}  " in done.out, done
    is_damaged = f"{study}  damaged" in done.out
    assert is_damaged == (f"warning: study `{study}`" in done.err), done
    assert command("delete", study, "--yes").status == 0
    assert f"{study}  " not in command("list").out


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


@by_attribute
def test_every_rule_names_the_attribute_that_breaks_it(attribute):
    wrong = [text for text in WRONG if not attribute._is_valid(text)]
    for text in wrong:
        try:
            attribute.parse(text)
        except DamagedStudyError as error:
            message = str(error)
            assert message.startswith(str(attribute))
            assert message.isprintable()
            assert len(message) < 300


@by_attribute
def test_no_command_trusts_an_attribute(folder, command, attribute):
    wrong = attribute.wrong_texts()
    assert len(wrong) > 10
    attribute.damage(folder, wrong[ATTRIBUTES.index(attribute) % len(wrong)])
    # One function checks all attributes of trials, so a few of the commands will do.
    step = 3 if attribute in OF_TRIAL_1 else 1
    lines = COMMANDS[ATTRIBUTES.index(attribute) % step :: step]
    errors = check_commands(folder, command, lines)
    assert errors, "no command found it"
    assert all(error.startswith(str(attribute)) for error in errors), errors
    check_dashboard(folder)
    check_list_and_delete(folder, command, attribute.study)


@pytest.mark.long
@pytest.mark.parametrize(
    ("attribute", "text"),
    # A quarter of all pairs, in which each attribute and each shape occurs several times.
    [(a, w) for i, a in enumerate(ATTRIBUTES) for j, w in enumerate(WRONG) if (i + j) % 4 == 0],
    ids=lambda given: str(given)[:60],
)
def test_no_command_trusts_an_attribute_of_any_shape(folder, command, attribute, text):
    attribute.damage(folder, text)
    # Each shape meets other commands; the test above runs them all.
    first = WRONG.index(text) + ATTRIBUTES.index(attribute)
    check_commands(folder, command, [COMMANDS[(first + 5 * i) % len(COMMANDS)] for i in range(4)])
    check_dashboard(folder)
    check_list_and_delete(folder, command, attribute.study)


OF_TRIAL = (
    "trial_id = (SELECT trial_id FROM trials WHERE number = 1 AND study_id = "
    "(SELECT study_id FROM studies WHERE study_name = 'small'))"
)
OF_STUDY = "study_id = (SELECT study_id FROM studies WHERE study_name = 'small')"


STATEMENTS = (
    f"UPDATE trial_values SET value = NULL WHERE {OF_TRIAL}",
    f"UPDATE trial_values SET value = 'x' WHERE {OF_TRIAL}",
    f"UPDATE trial_values SET value_type = 'INF_POS' WHERE {OF_TRIAL}",
    f"UPDATE trial_values SET value_type = 'x' WHERE {OF_TRIAL}",
    f"UPDATE trial_values SET objective = 1 WHERE {OF_TRIAL}",
    f"DELETE FROM trial_values WHERE {OF_TRIAL}",
    f"UPDATE trial_intermediate_values SET intermediate_value = 'x' WHERE {OF_TRIAL}",
    f"UPDATE trial_intermediate_values SET step = -step WHERE {OF_TRIAL}",
    f"UPDATE trial_intermediate_values SET step = step + 1e12 WHERE {OF_TRIAL}",
    f"UPDATE trial_params SET param_value = 'x' WHERE {OF_TRIAL}",
    f"UPDATE trial_params SET param_value = 1e308 WHERE {OF_TRIAL}",
    f"UPDATE trial_params SET param_name = X'fe' WHERE param_name = 'lr.family' AND {OF_TRIAL}",
    f"UPDATE trial_params SET distribution_json = '[]' WHERE {OF_TRIAL}",
    f"UPDATE trial_params SET distribution_json = '{{not json' WHERE {OF_TRIAL}",
    f"UPDATE trial_params SET param_name = param_name || char(27) || '[31m' WHERE {OF_TRIAL}",
    f"UPDATE trial_user_attributes SET key = X'fe' WHERE key = 'values' AND {OF_TRIAL}",
    f"UPDATE study_user_attributes SET key = X'fe' WHERE key = 'task_parts' AND {OF_STUDY}",
    f"UPDATE trials SET state = 'x' WHERE {OF_TRIAL}",
    f"UPDATE trials SET datetime_start = 'x' WHERE {OF_TRIAL}",
    f"UPDATE trials SET datetime_complete = NULL WHERE {OF_TRIAL}",
    f"UPDATE trial_heartbeats SET heartbeat = 'x' WHERE {OF_TRIAL}",
    f"UPDATE trial_intermediate_values SET intermediate_value_type = 'x' WHERE {OF_TRIAL}",
    f"UPDATE study_directions SET direction = 'x' WHERE {OF_STUDY}",
    f"DELETE FROM study_directions WHERE {OF_STUDY}",
    "INSERT INTO study_system_attributes VALUES (99, 1, 'dashboard:note:0', '{not json')",
    "INSERT INTO study_system_attributes VALUES (99, 1, 'dashboard:artifacts:1:x', '[]')",
    "UPDATE study_system_attributes SET value_json = '7'",
    "UPDATE study_system_attributes SET value_json = '{\"a\": []}'",
    f"INSERT INTO trial_system_attributes SELECT 99, trial_id, 'x', '[' FROM trials "
    f"WHERE {OF_TRIAL}",
)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_no_command_trusts_a_row(folder, command, statement):
    assert change(folder, statement)
    check_commands(folder, command, COMMANDS[STATEMENTS.index(statement) % 2 :: 2])
    check_dashboard(folder)
    done = command("list")
    assert "other  stopped" in done.out, done


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_study_is_deleted_whatever_its_rows_hold(folder, command, statement):
    change(folder, statement)
    for study in ("small:confirm", "small"):
        done = command("delete", study, "--yes")
        assert (done.status, done.err.count("\n")) == (0, 1), done
    with closing(sqlite3.connect(folder / "studies.db")) as connection:
        for table, owner in (("studies", "study_name"), ("study_user_attributes", "study_id")):
            found = {name for (name,) in connection.execute(f"SELECT {owner} FROM {table}")}
            assert found == ({"small@12", "other"} if table == "studies" else {2, 4}), table
        left = connection.execute("SELECT DISTINCT study_id FROM trials").fetchall()
        rows = (
            "SELECT count(*) FROM trial_params WHERE trial_id NOT IN (SELECT trial_id FROM trials)"
        )
        assert {*left} == {(2,), (4,)}
        assert connection.execute(rows).fetchone() == (0,)


@pytest.mark.parametrize(
    "name",
    [
        "-x",
        "--yes",
        "..",
        "a/b",
        "../small",
        "",
        " ",
        "x" * 500,
        "a\x1b[31m",
        "a\nerror: b",
        "a\u202eb",
    ],
    ids=ascii,
)
def test_a_study_with_a_name_that_is_refused_now_is_listed_and_deleted(folder, command, name):
    change(folder, "UPDATE studies SET study_name = ? WHERE study_name = 'other'", name)
    done = command("list")
    check(done, "list")
    assert (done.status, done.err) == (0, "")
    assert f"{printable_line(name)}  stopped" in done.out
    check(command("status", "--", name), name)
    done = command("delete", "--yes", "--", name)
    assert (done.status, done.err) == (0, f"deleted study {printable_line(name)}\n")
    assert command("list").out.count("\n") == 3


def test_a_study_whose_name_is_not_text_is_listed_and_deleted(folder, command):
    change(folder, "UPDATE studies SET study_name = ? WHERE study_name = 'other'", b"\xfe")
    done = command("list")
    assert (done.status, "b'\\xfe'  stopped" in done.out) == (0, True), done
    assert command("status", "small").status == 0
    assert "small" in command("status", "none").err
    done = command("delete", "--yes", "b'\\xfe'")
    assert (done.status, done.err) == (0, "deleted study b'\\xfe'\n")


def test_a_plan_without_families_is_a_constant(folder, command):
    Attribute("small", "plan", trial=1).damage(folder, '{"hyperparameters": {"lr": {}}}')
    check_commands(folder, command)
    Attribute("small", "plan", trial=1).damage(folder, '{"hyperparameters": {}}')
    check_commands(folder, command, COMMANDS[:10])
    check_dashboard(folder)


@pytest.mark.parametrize("name", ["-x", ".", "...", "a/b", "", "a b", "x" * 129, "a\x1b", "a\nb"])
def test_a_new_study_with_such_a_name_is_refused_in_one_line(folder, command, name):
    (folder / "new.toml").write_text(json_to_toml({**document(), "name": name}))
    for line in (("start", "new.toml"), ("start", "small.toml", f"--study={name}")):
        done = command(*line, "--workers", 0)
        check(done, line)
        assert done.status == 2
        assert done.err.count("\n") == 1
        assert "must" in done.err or "at most" in done.err
    assert command("list").out.count("\n") == 4
