"""The parts that a task's fingerprint covers, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from schedsearch.task import Fingerprint

#: At most so many names are shown in a line.
_SHOWN = 8


def fingerprint_lines(fingerprint: Fingerprint) -> Iterator[str]:
    """Yield the files of code, and the other parts whose change is noticed."""
    yield f"code       {_listed(fingerprint.names('code')) or 'none'}"
    packages = [
        f"package {name} {fingerprint.parts[f'package:{name}']}"
        for name in fingerprint.names("package")
    ]
    files = [f"file {name}" for name in fingerprint.names("file")]
    variables = [f"variable {name}" for name in fingerprint.names("variable")]
    if others := [*files, *variables, *packages]:
        yield f"depends on {_listed(others)}"


def fingerprint_json(fingerprint: Fingerprint) -> dict[str, Any]:
    """Return the names of all parts, and the versions of the packages."""
    packages = {name: fingerprint.parts[f"package:{name}"] for name in fingerprint.names("package")}
    return {
        "code": fingerprint.names("code"),
        "packages": packages,
        "data_files": fingerprint.names("file"),
        "environment": fingerprint.names("variable"),
    }


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
