"""The sdist has every file of the repository, and the wheel works in an empty environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest
import tomli_w
from packaging.metadata import Metadata

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMED = f"{PROJECT['name']}-{PROJECT['version']}"
#: The files that setuptools adds to an sdist.
GENERATED = {"PKG-INFO", "setup.cfg"}
EGG_INFO = "schedsearch.egg-info"

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("package")]

LOOP = """
import torch
import schedsearch

config = schedsearch.load("best.toml")
scheduler = config.scheduler()
weighted = schedsearch.WeightedLoss(["equation", "boundary"])
solution = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
optimizer = torch.optim.SGD([solution], lr=0.001)
for epoch in range(config.horizon):
    scheduler.apply(optimizer)
    weighted.set(scheduler.values)
    terms = dict(zip(["equation", "boundary"], solution.square()))
    loss = weighted(terms)
    assert loss == terms["equation"] + scheduler.values["weights.boundary"] * terms["boundary"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step(loss.item(), terms={name: term.item() for name, term in terms.items()})
print("epochs", config.horizon)
"""


def run(*command: object, cwd: Path) -> str:
    """Return what a command prints; one that fails shows all that it printed.

    It finds nothing but what is installed: neither this repository nor the settings of these tests.
    """
    own = ("PYTHON", "SCHEDSEARCH_")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(own)}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def tracked() -> set[str]:
    """Return what git tracks, or what this sdist came with."""
    if (ROOT / ".git").exists():
        # The checkout may belong to another user, which git refuses unless told that it is safe.
        git = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
        listed = run(*git, cwd=ROOT).rstrip("\0").split("\0")
    else:
        listed = (ROOT / EGG_INFO / "SOURCES.txt").read_text().splitlines()
    return {name for name in listed if not is_generated(name) and (ROOT / name).exists()}


def is_generated(name: str) -> bool:
    return name in GENERATED or name.startswith(f"{EGG_INFO}/")


@dataclass(frozen=True)
class Built:
    """An sdist and the wheel that was built from it."""

    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the repository's files as `make dist` does, where nothing else lies beside them."""
    sources, dist = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, sources / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, sources, cwd=dist)
    [sdist], [wheel] = dist.glob("*.tar.gz"), dist.glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install the wheel alone into an empty environment, and yield its folder of programs."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", environment, cwd=environment)
    programs = environment / "bin"
    pip = [programs / "python", "-m", "pip", "install", "--quiet", "--no-compile"]
    run(*pip, "--constraint", ROOT / "constraints.txt", built.wheel, cwd=environment)
    yield programs
    shutil.rmtree(environment)  # pytest would keep it: more than a gigabyte


def packed(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_sdist_has_exactly_the_files_of_the_repository(built: Built):
    with tarfile.open(built.sdist) as archive:
        members = [member for member in archive.getmembers() if not member.isdir()]
    names = {str(PurePosixPath(member.name).relative_to(NAMED)) for member in members}
    assert {name for name in names if not is_generated(name)} == tracked()
    [script] = [member for member in members if member.name.endswith(".ci/run")]
    assert script.mode & 0o100, ".ci/run can be executed"


def test_no_file_of_the_repository_is_a_link():
    """Archives of the repository that are unpacked without links have text files in their place."""
    assert not [name for name in tracked() if (ROOT / name).is_symlink()]


def test_the_wheel_has_the_package_and_nothing_else(built: Built):
    own = {name for name in packed(built.wheel) if f"{NAMED}.dist-info" not in name}
    spaces = {f"schedsearch/{name}" for name in tracked() if name.startswith("search_spaces/")}
    assert own == {name for name in tracked() if name.startswith("schedsearch/")} | spaces
    assert "schedsearch/search_spaces/noisy_digits.toml" in own
    assert "schedsearch/py.typed" in own


def test_the_metadata_is_valid_and_complete(built: Built):
    with zipfile.ZipFile(built.wheel) as archive:
        found = archive.read(f"{NAMED}.dist-info/METADATA")
    metadata = Metadata.from_email(found, validate=True)
    assert metadata.license_expression == "MIT"
    assert f"{NAMED}.dist-info/licenses/LICENSE" in packed(built.wheel)
    assert metadata.description == (ROOT / "README.md").read_text()
    assert metadata.description_content_type == "text/markdown"
    assert metadata.author == "schedsearch developers"
    assert metadata.keywords
    assert {"Typing :: Typed", "Operating System :: POSIX :: Linux"} <= set(metadata.classifiers)


def test_every_url_leads_into_one_repository_and_to_a_file_of_it():
    urls = dict(PROJECT["urls"])
    home = urls.pop("Homepage")
    for url in urls.values():
        within = url.removeprefix(f"{home}/")
        assert within != url
        assert within == "issues" or within.removeprefix("blob/main/") in tracked()


def test_the_installed_program_checks_searches_and_exports_for_a_plain_loop(
    installed: Path, tmp_path: Path
):
    space = tomllib.loads((ROOT / "search_spaces" / "burgers.toml").read_text())
    space |= {"horizon": 4, "search": {"trials": 3}}
    (tmp_path / "space.toml").write_text(tomli_w.dumps(space))
    (tmp_path / "loop.py").write_text(LOOP)
    program = installed / "schedsearch"

    assert run(program, "--version", cwd=tmp_path) == f"schedsearch {PROJECT['version']}\n"
    assert "horizon    4 epochs" in run(program, "check", "space.toml", cwd=tmp_path)
    assert "3 of 3 ended" in run(program, "start", "space.toml", cwd=tmp_path)
    run(program, "export", "burgers", "-o", "best.toml", cwd=tmp_path)
    assert run(installed / "python", "loop.py", cwd=tmp_path) == "epochs 4\n"
