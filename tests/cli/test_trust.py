"""Foreign tasks: code that is neither built in nor the user's runs only with consent."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

from schedsearch.errors import TaskError
from schedsearch.task import TRUST_VARIABLE, find_untrusted_code
from tests.cli.command import Command
from tests.searches import ROOT, document

#: Code that leaves a trace when it runs.
TRACE = "import os, pathlib\npathlib.Path(os.environ['TRACE']).touch()\n"
COMMAND = (sys.executable, "-m", "schedsearch")
TASK = TRACE + "from tests.searches import train\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a foreign package, a space and a config that use it, and a study of the space."""
    place = tmp_path_factory.mktemp("trust")
    package = place / "elsewhere" / "stranger"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(TRACE)
    (package / "tasks.py").write_text(TASK)
    here = place / "here"
    here.mkdir()
    space = {**document(), "task": "stranger.tasks:train"}
    (here / "small.toml").write_text(tomli_w.dumps(space))
    constant = {"lr": {"families": {"constant": {"value": 0.1}}}}
    (here / "config.toml").write_text(tomli_w.dumps({**space, "hyperparameters": constant}))
    subprocess.run(
        [*COMMAND, "start", "small.toml", "--trials", "6", "--trust-task"],
        cwd=here,
        env=environment(place),
        stdin=subprocess.DEVNULL,
        check=True,
    )
    (place / "trace").unlink()  # --trust-task let it run
    return place


def environment(place: Path) -> dict[str, str]:
    others = {key: value for key, value in os.environ.items() if key != TRUST_VARIABLE}
    path = f"{ROOT}:{place / 'elsewhere'}"
    return {**others, "PYTHONPATH": path, "TRACE": str(place / "trace")}


@pytest.fixture
def run(place, monkeypatch, capsys) -> Command:
    monkeypatch.delenv(TRUST_VARIABLE)
    monkeypatch.delenv("SCHEDSEARCH_STORAGE", raising=False)
    monkeypatch.setenv("TRACE", str(place / "trace"))
    monkeypatch.syspath_prepend(str(place / "elsewhere"))
    monkeypatch.chdir(place / "here")
    return Command(monkeypatch, capsys)


@pytest.mark.parametrize(
    "command",
    [
        "check small.toml",
        "start small.toml",
        "start small --horizon 20",
        "worker small",
        "confirm small",
        "train config.toml",
    ],
)
def test_no_foreign_code_runs_without_consent(run, place, command):
    done = run(*command.split())
    init = place / "elsewhere" / "stranger" / "__init__.py"
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"error: task 'stranger.tasks:train' runs code of {init}, which is not under the current "
        "folder: add --trust-task to run it\n"
    )
    assert not (place / "trace").exists()


@pytest.mark.parametrize("command", ["check --no-task small.toml", "preview small.toml"])
def test_commands_that_need_no_task_need_no_consent(run, place, command):
    assert run(*command.split()).status == 0
    assert not (place / "trace").exists()


@pytest.mark.parametrize(("answer", "status", "ran"), [("y", 0, True), ("n", 2, False)])
def test_on_a_terminal_the_user_is_asked(place, answer, status, ran):
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        process = subprocess.Popen(
            [*COMMAND, "check", "small.toml"],
            cwd=place / "here",
            env=environment(place),
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        while b"Run it? [y/N]" not in shown:
            shown += terminal.read(1024)
        assert not (place / "trace").exists()
        terminal.write(f"{answer}\n".encode())
        assert process.wait(timeout=60) == status
    assert (place / "trace").exists() == ran
    (place / "trace").unlink(missing_ok=True)


# --- which code is foreign -----------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Change to an empty folder."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(ROOT)])
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(path: Path, text: str = "raise SystemExit('this ran')") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_modules_under_the_current_folder_are_trusted(here):
    write(here / "mine.py")
    write(here / "outer" / "inner" / "deep.py")
    assert find_untrusted_code("mine:Task") is None
    assert find_untrusted_code("outer.inner.deep:Task") is None
    assert find_untrusted_code("schedsearch.tasks.noisy_digits:NoisyDigits") is None
    assert find_untrusted_code("no_such.module:Task") is None


def test_installed_modules_are_foreign_even_under_the_current_folder(here, monkeypatch):
    installed = here / ".venv" / "lib" / "site-packages"
    file = write(installed / "bought.py")
    monkeypatch.syspath_prepend(str(installed))
    assert find_untrusted_code("bought:Task") == str(file)


def test_the_standard_library_is_foreign_in_every_folder(monkeypatch):
    monkeypatch.chdir("/")
    assert find_untrusted_code("subprocess:Popen") == subprocess.__file__
    assert find_untrusted_code("sys:exit") == "Python itself"
    assert find_untrusted_code("__main__:anything") == "the running program"


def test_the_init_of_a_parent_package_counts(here, tmp_path, monkeypatch):
    init = write(tmp_path / "there" / "outer" / "__init__.py")
    write(tmp_path / "there" / "outer" / "inner.py")
    monkeypatch.syspath_prepend(str(tmp_path / "there"))
    assert find_untrusted_code("outer.inner:Task") == str(init)
    assert find_untrusted_code("outer.absent:Task") == str(init)


def test_of_a_namespace_package_only_the_module_counts(here, tmp_path, monkeypatch):
    write(here / "shared" / "mine.py")
    theirs = write(tmp_path / "there" / "shared" / "sub" / "theirs.py")
    monkeypatch.syspath_prepend(str(tmp_path / "there"))
    assert find_untrusted_code("shared.mine:Task") is None
    assert find_untrusted_code("shared.sub.theirs:Task") == str(theirs)


def test_a_link_counts_as_its_target(here, tmp_path):
    theirs = write(tmp_path / "there" / "theirs.py")
    (here / "linked.py").symlink_to(theirs)
    assert find_untrusted_code("linked:Task") == str(theirs)


@pytest.mark.parametrize("reference", [".mine:Task", "mine.:Task", "mine", "a..b:Task"])
def test_an_invalid_reference_is_refused(here, reference):
    with pytest.raises(TaskError, match="must be written MODULE:ATTRIBUTE"):
        find_untrusted_code(reference)
