"""`make .venv` makes the same environment today and tomorrow."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
#: Packages that a build of torch for accelerators depends on.
ACCELERATORS = re.compile(r"(nvidia|cuda|triton|pytorch-triton)\b.*")


def pins() -> dict[str, str]:
    """Return the exact versions of constraints.txt by package; a line that is no pin is refused."""
    lines = [li for li in (ROOT / "constraints.txt").read_text().splitlines() if li[:1] != "#"]
    matches = [re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in lines]
    assert all(matches), "only comments and NAME==VERSION"
    return {canonicalize_name(m[1]): m[2] for m in matches if m is not None}


def declared() -> list[Requirement]:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = content["project"]
    extras = project["optional-dependencies"].values()
    listed = [*content["build-system"]["requires"], *project["dependencies"], *chain(*extras)]
    return [Requirement(text) for text in listed]


def applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def brought_in() -> set[str]:
    """Return every package that the declared ones need here, directly or not."""
    found: set[str] = set()
    waiting = [(r.name, extra) for r in declared() for extra in ("", *r.extras)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        found.add(canonicalize_name(name))
        try:
            needed = map(Requirement, requires(name) or ())
            waiting += [(r.name, e) for r in needed if applies(r, extra) for e in ("", *r.extras)]
        except PackageNotFoundError:
            continue
    return found


def test_every_package_is_pinned():
    unpinned = brought_in() - set(pins())
    assert [name for name in unpinned if not ACCELERATORS.fullmatch(name)] == []


def test_every_pin_is_within_the_declared_range():
    versions = pins()
    for requirement in declared():
        pinned = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pinned), f"{requirement} but pinned to {pinned}"


def test_no_index_and_no_local_build_is_named():
    text = (ROOT / "constraints.txt").read_text()
    assert "+" not in text
    assert "/" not in text
