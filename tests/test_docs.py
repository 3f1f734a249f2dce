"""The documentation is complete and matches the code."""

from __future__ import annotations

import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

import schedsearch
from schedsearch.cli import app
from schedsearch.schedules import FAMILIES
from schedsearch.schedules.families import COMBINATORS
from schedsearch.schedules.parameters import parameters_of
from schedsearch.space import Space
from schedsearch.space.lint import lint_warnings
from schedsearch.space.suggesters import RandomSuggester
from schedsearch.tasks import BUILT_IN

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def generate(docs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(docs / "generate.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def copied_docs(tmp_path: Path) -> Path:
    return shutil.copytree(DOCS, tmp_path / "docs")


def test_the_generated_pages_are_current():
    done = generate(DOCS, "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_outdated_page_is_named_and_updated(copied_docs: Path):
    page = copied_docs / "families.md"
    right = page.read_text()
    page.write_text(right.replace("initial * decay_rate ** t", "initial * decay_rate * t"))
    done = generate(copied_docs, "--check")
    assert done.returncode == 1
    assert "families.md" in done.stderr
    assert generate(copied_docs).returncode == 0
    assert page.read_text() == right


def test_code_within_a_sentence_shows_its_stars_without_backslashes():
    for page in sorted(DOCS.glob("*.md")):
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        code = re.findall(r"`[^`]+`", prose)
        assert [part for part in code if r"\*" in part] == [], page.name


def test_a_generated_part_that_no_page_has_is_an_error(copied_docs: Path):
    page = copied_docs / "spaces.md"
    page.write_text(page.read_text().replace("<!-- generated: group -->", ""))
    done = generate(copied_docs, "--check")
    assert done.returncode == 1
    assert "group" in done.stderr


def test_every_command_has_a_section():
    commands = vars(typer.main.get_command(app))["commands"]
    assert headings("cli.md", level=2) == list(commands)


def test_every_family_has_a_section_that_explains_every_parameter():
    page = (DOCS / "families.md").read_text()
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(FAMILIES)
    for name, section in sections.items():
        for parameter in parameters_of(FAMILIES[name]):
            assert re.search(rf"^\| `{parameter.name}` \|.*\| [^|]+ \|$", section, re.MULTILINE)


def test_every_public_name_has_a_section():
    names = set(headings("python.md", level=2)) | set(headings("python.md", level=3))
    assert set(schedsearch.__all__) <= names


def toml_examples_of_families() -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```", (DOCS / "families.md").read_text(), re.M | re.S)


def test_every_combinator_has_a_toml_example():
    examples = "".join(toml_examples_of_families())
    for combinator in COMBINATORS:
        assert f".families.{combinator.family}]" in examples


@pytest.mark.parametrize("example", toml_examples_of_families())
def test_a_toml_example_of_the_families_is_a_space_that_plans_can_be_drawn_from(example: str):
    document: dict[str, Any] = {
        "name": "example",
        "task": "module:Task",
        "horizon": 60,
        "objective": {"metric": "val_loss"},
        **tomllib.loads(example),
    }
    searched = [document.setdefault("hyperparameters", {}), document.get("groups", {})]
    constant = {"value": {"low": 0.1, "high": 1.0}}
    document["hyperparameters"].setdefault("lr", {"families": {}})
    for table in (table for tables in searched for table in tables.values()):
        table["families"]["constant"] = constant
    space = Space.from_document(document, "example.toml")
    seen = set()
    for seed in range(30):
        plan = space.suggest(RandomSuggester(seed)).resolve(space.horizon, seed)
        plan.values(plan.start())
        seen |= {schedule.family for schedule in plan.schedules.values()}
    [family] = re.findall(r"^\[\w+\.\w+\.families\.(\w+)\]$", example, re.M)
    assert seen == {"constant", family}


def test_links_and_pictures_of_the_pages_exist():
    for page in [*DOCS.glob("*.md"), *ROOT.glob("*.md")]:
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#]+)|src=\"([^\"]+)\"", prose):
            path = "".join(target)
            assert "://" in path or (page.parent / path).exists(), f"{page.name}: {path}"


def test_the_design_page_names_every_module_and_package():
    page = (DOCS / "design.md").read_text()
    named = set(re.findall(r"^  (\w+)(?:/|\.py)  ", page, re.MULTILINE))
    existing = {module.name for module in pkgutil.iter_modules(schedsearch.__path__)}
    assert named == existing - {"__main__"}


def test_every_dependency_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    declared = [item for group in (project["dependencies"], *extras) for item in group]
    page = (DOCS / "dependencies.md").read_text()
    for requirement in declared:
        name = re.match(r"[\w.-]+", requirement)
        assert name is not None
        assert f"| {name[0]} |" in page, f"{name[0]} is not in docs/dependencies.md"


def test_the_readme_counts_the_families_and_the_built_in_tasks():
    page = (ROOT / "README.md").read_text()
    assert set(re.findall(r"\[(\d+) families\]", page)) == {str(len(FAMILIES))}
    assert len(BUILT_IN) == 10
    assert "each of the ten\nbuilt-in tasks" in page


def headings(page: str, level: int) -> list[str]:
    return re.findall(rf"^{'#' * level} (.+)$", (DOCS / page).read_text(), re.MULTILINE)


def test_the_space_of_the_readme_warms_up_within_the_first_epochs():
    [given] = re.findall(r"^```toml\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    space = Space.from_file(tomllib.loads(given), "README.md")
    assert lint_warnings(space) == []
    plans = [space.suggest(RandomSuggester(seed)) for seed in range(30)]
    warmups = [plan.resolve(space.horizon, 0) for plan in plans if plan.moving]
    assert 0 < len(warmups) < len(plans), "the others are constant"
    for plan in warmups:
        early, late = plan.evaluate_steps(plan.start(), [0.1, 0.2])[0]["lr"]
        assert early < late
