"""The examples run, and their schedules move."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import schedsearch

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*arguments):
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def values_in(line):
    return {name: float(value) for name, value in re.findall(r"([\w.]+) ([-\d.e]+)(?:  |$)", line)}


@pytest.fixture(scope="module")
def printed():
    done = run(EXAMPLES / "plain_loop.py")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_plain_loop_trains_with_a_config(printed):
    lines = list(map(values_in, printed.splitlines()))
    assert len(lines) == 60
    errors = [line["error"] for line in lines]
    assert max(errors) < 0.7, "always saying the mean gives 0.86"
    # Each new best adds a hundredth, in the epoch that follows.
    bests = [
        sum(e < min(errors[:i], default=9.0) for i, e in enumerate(errors[:k])) for k in range(60)
    ]
    assert [line["weights.l1"] for line in lines] == [round(0.2 + 0.01 * n, 4) for n in bests]
    assert {line["weights.l2"] for line in lines} == {0.8}
    assert lines[0]["lr"] == 0.01 > lines[-1]["lr"]


def test_the_plain_loop_takes_a_config_in_another_format(tmp_path, printed):
    config = schedsearch.load(EXAMPLES / "best.toml")
    config.save(tmp_path / "best.yaml")
    assert schedsearch.load(tmp_path / "best.yaml") == config
    assert run(EXAMPLES / "plain_loop.py", tmp_path / "best.yaml").stdout == printed
