"""Quick commands load neither torch nor optuna, and the keys of attributes are constants."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SPACES = ROOT / "search_spaces"

PROBE = """
import sys
from schedsearch.cli import main
sys.argv = ["schedsearch", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = {"torch", "optuna", "matplotlib", "scipy"}
print("loaded:", *sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


def loaded_by(*arguments: str) -> list[str]:
    command = [sys.executable, "-c", PROBE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("start", "--help"),
        ("check", str(SPACES / "noisy_digits.toml"), "--no-task"),
        ("init", "--list"),
    ],
    ids=["help", "help of a command", "check without the task", "list of shipped spaces"],
)
def test_a_quick_command_loads_nothing_heavy(arguments: tuple[str, ...]):
    assert loaded_by(*arguments) == []


def test_a_status_loads_neither_the_worker_nor_samplers():
    code = (
        "import sys, schedsearch.report.status, schedsearch.report.status_text; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unused = ("schedsearch.worker", "schedsearch.samplers", "schedsearch.trajectories", "torch")
    assert not [name for name in done.stdout.split() if name.startswith(unused)]


def test_the_keys_of_stored_attributes_are_constants_of_one_module():
    literal = re.compile(
        r"""user_attrs(?:\.get\(|\[)["']|set_(?:trial_|study_)?user_attr\([\w., ]*["']"""
        r"""|["'] (?:not )?in \w+\.user_attrs"""
    )
    found = {
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in (ROOT / "schedsearch").rglob("*.py")
        for line in file.read_text().splitlines()
        if literal.search(line)
    }
    assert found == set()
