"""Properties of every command: completion, --quiet, colour, and the output streams."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

import pytest
import tomli_w
import typer

from schedsearch.cli import app
from tests.cli.command import Command
from tests.searches import ROOT, document, make_study, url_of, work, write_space

COMMANDS = vars(typer.main.get_command(app))["commands"]
CONSTANT = {"lr": {"families": {"constant": {"value": 0.1}}}}
#: Escape sequences that set a colour, but not those that move or hide the cursor.
COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d)[;m]")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Command:
    monkeypatch.setenv("SCHEDSEARCH_STORAGE", url_of(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


@pytest.fixture
def study(tmp_path):
    study = make_study(tmp_path)
    work(study)
    return study


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps({**document(), "hyperparameters": CONSTANT}))
    return path


@pytest.fixture
def complete(run, monkeypatch):
    """Return the completions that bash receives for the beginning of a line."""

    def complete(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("_SCHEDSEARCH_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        done = run()
        assert (done.status, done.err) == (0, "")
        return done.out.split()

    return complete


def test_commands_and_options_are_completed(complete):
    assert complete("schedsearch st") == ["start", "status"]
    assert set(complete("schedsearch ")) == set(COMMANDS)
    assert complete("schedsearch start --al") == ["--also"]


@pytest.mark.parametrize("command", ["confirm", "export", "plot", "status", "delete", "worker"])
def test_study_names_are_completed(complete, study, command):
    assert complete(f"schedsearch {command} ") == ["small"]
    assert complete(f"schedsearch {command} other") == []


def test_study_names_come_from_the_storage_in_the_line(complete, tmp_path, study, monkeypatch):
    monkeypatch.delenv("SCHEDSEARCH_STORAGE")
    assert complete(f"schedsearch export --storage {url_of(tmp_path)} ") == ["small"]


def test_completion_without_a_storage_offers_nothing_and_creates_nothing(complete, tmp_path):
    assert complete("schedsearch export ") == []
    assert list(tmp_path.iterdir()) == []


def test_the_shell_completes_file_names(run, complete, tmp_path):
    write_space(tmp_path, document())
    assert complete("schedsearch check sm") == []
    script = subprocess.run(
        [sys.executable, "-m", "schedsearch", "--show-completion", "bash"],
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # "-o default": the shell completes file names if the function offers nothing.
    assert subprocess.run(
        ["bash", "-c", f"{script}\ncomplete | grep schedsearch"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.startswith("complete -o default -F _")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "-x.toml"], "no option -x (hint: for a file of this name write ./-x.toml)"),
        (["start", "a.toml", "--trial", "3"], "no option --trial (hint: did you mean --"),
        (["start"], "`schedsearch start` needs the argument {space} (hint: `schedsearch start -h`"),
        (["status", "a", "b"], "too many arguments: b (hint: `schedsearch status -h` shows"),
        (["start", "a.toml", "--trials"], "--trials needs a value (hint: "),
        (["status", "--json=3"], "option '--json' does not take a value (hint: "),
        (["strt"], "no command strt (hint: did you mean `start`?)"),
        (["\x1b[31m"], "no command \\u001b[31m (hint: `schedsearch -h` lists the commands)"),
        (["--trials"], "no option --trials (hint: "),
    ],
)
def test_a_wrong_command_line_is_one_error_line_with_a_hint(run, arguments, said):
    done = run(*arguments)
    [line] = done.err.splitlines()
    assert (done.status, done.out) == (2, "")
    assert line.startswith(f"error: {said}")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_quiet(name):
    assert any("-q" in parameter.opts for parameter in COMMANDS[name].params)


def test_no_summary_of_a_command_is_cut_in_80_columns(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = run("--help").out
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert "..." not in out.partition("Commands:")[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_storage_and_storage_file_are_options_of_the_same_commands(name):
    flags = [flag for parameter in COMMANDS[name].params for flag in parameter.opts]
    assert ("--storage" in flags) == ("--storage-file" in flags)


def test_quiet_drops_remarks_but_keeps_data_warnings_and_errors(run, study, config):
    loud, quiet = run("export", "small"), run("export", "small", "-q")
    assert (loud.out, quiet.err) == (quiet.out, "")
    assert "not confirmed" in loud.err
    assert run("plot", "small", "-o", "small.png", "--quiet").err == ""
    train = run("train", config, "-o", "model.safetensors", "-q")
    assert train.err.startswith("error: model.safetensors was not written: ")
    assert run("export", "none", "-q").err.startswith("error: ")
    assert "not confirmed" in run("export", "small").err


@pytest.mark.long
def test_json_prints_one_document_on_stdout(run, study, config):
    for command in (
        ["check", config],
        ["status"],
        ["list"],
        ["train", config, "--no-reuse"],
        ["start", config, "--study", "another", "--trials", 1, "-q"],
    ):
        done = run(*command, "--json")
        assert done.status == 0, done.err
        assert isinstance(json.loads(done.out), dict | list)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_terminal_gets_colour_unless_no_color_is_set(tmp_path, config, no_color, coloured):
    assert bool(COLOUR.search(shown_on_a_terminal(tmp_path, config, no_color))) == coloured


def shown_on_a_terminal(folder, config, no_color):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "schedsearch", "train", str(config)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "NO_COLOR": no_color},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                piece = terminal.read(4096)
            except OSError:  # Linux says so where others give an end of file
                break
            if not piece:
                break
            shown += piece
    assert process.wait(timeout=60) == 0, shown
    return shown


def test_a_pipe_gets_no_escape_sequences(run, study, config):
    for command in (["status"], ["train", config], ["check", config]):
        done = run(*command)
        assert "\x1b" not in done.out + done.err
