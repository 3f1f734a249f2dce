"""Stdout is for data: what a task prints goes to stderr, by whatever means it prints."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from tests.searches import begin, document, url_of, write_space

LINES = ("chatty: print 0", "chatty: descriptor", "chatty: C library", "chatty: child")


def command(folder: Path, *arguments: object) -> tuple[int, str, str]:
    process = begin(*arguments, folder=folder, SCHEDSEARCH_STORAGE=url_of(folder))
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture
def space(tmp_path) -> Path:
    content = document(trials=8) | {"task": "tests.cli.chatty:train", "horizon": 2}
    return write_space(tmp_path, content)


@pytest.mark.long
def test_every_command_that_runs_a_task_prints_one_json_document(tmp_path, space):
    code, out, err = command(tmp_path, "check", space, "--json", "--trust-task")
    assert (code, json.loads(out)["problems"]) == (0, [])
    assert "chatty: imported" in err

    code, out, err = command(tmp_path, "start", space, "--json", "-q", "--trust-task")
    assert (code, json.loads(out)["trials"]["complete"] > 0) == (0, True)
    assert all(line in err for line in LINES)

    confirm = ("confirm", "small", "--json", "--top", "1", "--seeds", "6", "--workers", "1")
    code, out, err = command(tmp_path, *confirm, "--trust-task")
    assert (code, json.loads(out)["study"]) == (0, "small")
    assert all(line in err for line in LINES)

    code, out, err = command(tmp_path, "export", "small")
    assert (code, tomllib.loads(out)["name"]) == (0, "small")
    (tmp_path / "best.toml").write_text(out)
    code, out, err = command(tmp_path, "train", "best.toml", "--json", "--no-reuse", "--trust-task")
    assert (code, "runs" in json.loads(out)) == (0, True)
    assert all(line in err for line in LINES)


@pytest.mark.long
def test_what_the_methods_of_a_task_print_is_shown_and_is_no_data(tmp_path):
    content = document(trials=7) | {"task": "tests.cli.chatty:task", "horizon": 2}
    space = write_space(tmp_path, content)
    for arguments in (("check", space), ("start", space, "--workers", "1")):
        code, out, err = command(tmp_path, *arguments, "--json", "--trust-task")
        assert (code, isinstance(json.loads(out), dict)) == (0, True)
        for method in ("data", "model", "terms", "metrics"):
            assert f"chatty: {method}" in err, arguments


@pytest.mark.long
def test_the_output_of_a_task_is_on_stderr_of_a_single_worker_too(tmp_path, space):
    assert command(tmp_path, "start", space, "--workers", "0", "--trust-task")[0] == 0
    code, out, err = command(tmp_path, "worker", "small", "--quiet", "--trust-task")
    assert (code, out) == (0, "")
    assert all(line in err for line in LINES)


def test_a_tasks_control_sequences_do_not_reach_the_terminal(monkeypatch, capsys):
    from schedsearch.report.progress import Progress

    Progress("trials").say("half\x1b[2J way\x1b[3A :up: [b]x[/b]")
    assert capsys.readouterr().err == "half way :up: [b]x[/b]\n"
