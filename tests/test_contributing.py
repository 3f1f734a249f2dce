"""The hooks of a commit are the checks of `make check`, and what CONTRIBUTING.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def recipe(target: str) -> list[str]:
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert found is not None
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in found[1].splitlines()]


def for_all_files(hook: dict) -> str:
    """Return the command that checks what a hook checks, in every file of the repository."""
    return f"{hook['entry']} ." if hook.get("pass_filenames", True) else hook["entry"]


def test_the_hooks_run_what_make_check_runs():
    assert [for_all_files(hook) for hook in HOOKS] == recipe("check")


def test_the_format_hook_reads_pages_too_whose_code_ruff_formats():
    [formatting] = [hook for hook in HOOKS if hook["id"] == "format"]
    assert "markdown" in formatting["types_or"]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_a_hook_runs_for_some_file_of_the_repository(hook: dict):
    names = [str(path.relative_to(ROOT)) for path in (ROOT / "schedsearch").rglob("*.py")]
    assert any(re.search(hook.get("files", ""), name) for name in names)


def test_every_target_of_make_that_the_page_names_is_one():
    targets = re.findall(r"^([a-z.-]+):", MAKEFILE, re.MULTILINE)
    named = set(re.findall(r"\bmake ([a-z.][a-z.-]*)", "\n".join(code(PAGE))))
    assert {"check", "test", "dist"} <= named <= set(targets)


def test_every_path_that_the_page_names_is_there():
    paths = {text for text in code(PAGE) if re.fullmatch(r"[\w.-]+(/[\w.-]*)+", text)}
    assert "schedsearch/schedules/" in paths
    assert {path for path in paths if not (ROOT / path).exists()} == set()


def test_the_page_says_what_every_folder_of_the_package_is_for():
    folders = {path.parent.name for path in (ROOT / "schedsearch").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"schedsearch/(\w+)/", PAGE))


def code(page: str) -> list[str]:
    """Return what a page sets as code: the spans, and the lines of blocks."""
    blocks = re.findall(r"^    (.+)$", page, re.MULTILINE)
    return [*re.findall(r"`([^`\n]+)`", page), *blocks]
