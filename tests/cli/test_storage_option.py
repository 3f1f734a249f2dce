"""The database of a command: from the flag, the variable, or a file that contains the URL."""

from __future__ import annotations

import json

import pytest

from tests.cli.command import Command
from tests.processes import descendants, every_process, is_forked_worker
from tests.searches import begin, document, make_study, url_of, wait_until, write_space
from tests.servers import PASSWORD, SERVERS


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCHEDSEARCH_STORAGE", raising=False)
    return Command(monkeypatch, capsys)


@pytest.fixture
def file(tmp_path):
    make_study(tmp_path)
    found = tmp_path / "storage"
    found.write_text(f"{url_of(tmp_path)}\n")
    found.chmod(0o600)
    return found


def test_the_url_in_a_file_overrides_the_variable(run, file, monkeypatch):
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", "sqlite:///absent.db")
    done = run("list", "--storage-file", file, "--json")
    assert (done.status, done.err) == (0, "")
    assert [study["study"] for study in json.loads(done.out)] == ["small"]


def test_a_file_and_a_flag_together_are_refused(run, file):
    by_file, by_flag = ["--storage-file", file], ["--storage", "x"]
    for order in ([*by_file, *by_flag], [*by_flag, *by_file]):
        done = run("list", *order)
        said = "error: --storage and --storage-file both name a database: give only one\n"
        assert (done.status, done.err) == (2, said)


def test_a_file_that_other_users_can_read_earns_a_warning(run, file):
    file.chmod(0o644)
    done = run("list", "--storage-file", file)
    assert done.status == 0
    assert f"warning: other users can read {file}, which may hold a password: chmod 600" in done.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "must contain one line, the database URL"),
        (b"sqlite:///a.db\nsqlite:///b.db\n", "must contain one line, the database URL"),
        (b"\xff\xfe", "cannot be read: it is not text"),
    ],
)
def test_a_file_without_one_url_is_refused_with_its_name(run, tmp_path, content, said):
    file = tmp_path / "given"
    if content is not None:
        file.write_bytes(content)
    done = run("status", "--storage-file", file)
    assert (done.status, done.err) == (2, f"error: --storage-file {file}: {said}\n")


@pytest.mark.parametrize("name", ["status", "list", "delete", "worker", "export", "plot", "train"])
def test_every_command_warns_of_a_password_in_the_flag(run, tmp_path, name):
    arguments = {"status": [], "list": [], "plot": ["small", "-o", "p.png"]}
    if name == "train":
        arguments["train"] = [write_space(tmp_path, document())]
    url = "postgresql+psycopg://ann:hidden@127.0.0.1:9/db"
    done = run(name, *arguments.get(name, ["small"]), "--storage", url)
    assert done.status == 2
    assert "every user of this machine can read the password in --storage" in done.err
    assert "hidden" not in done.err + done.out


@pytest.mark.long
@pytest.mark.parametrize("backend", SERVERS)
def test_a_password_appears_in_no_command_line_no_output_and_no_config(database_url, tmp_path):
    file = tmp_path / "storage"
    file.write_text(database_url)
    file.chmod(0o600)
    space, given = write_space(tmp_path, document(trials=4)), ("--storage-file", file)
    search = begin("start", space, "--workers", 1, *given, folder=tmp_path)
    lines: set[str] = set()
    wait_until(lambda: _see_command_lines(search.pid, lines))
    outputs = [*search.communicate(timeout=60)]
    assert search.returncode == 0, outputs
    for words in (["status", "--json"], ["export", "small", "-o", "best.toml"]):
        done = begin(*words, *given, folder=tmp_path)
        outputs += done.communicate(timeout=60)
        assert done.returncode == 0, outputs
    assert any(" schedsearch start " in line for line in lines)
    written = [path.read_text(errors="replace") for path in tmp_path.glob("*.toml")]
    assert not [text for text in (*outputs, *lines, *written) if PASSWORD in text]


def _see_command_lines(command: int, lines: set[str]) -> bool:
    """Collect what others see of all processes; tell whether a command has a worker."""
    processes = list(every_process())
    lines.update(line for _, line, _ in processes)
    below = descendants(command)
    # The first environment of a process, which the same user can read.
    lines.update(environment for pid, _, environment in processes if pid in below)
    return any(
        is_forked_worker(pid) or " schedsearch worker " in line
        for pid, line, _ in processes
        if pid in below
    )
