"""Fingerprints: what determines the results of a task, as a hash and as the list of its parts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Fingerprint:
    """The parts of a task that determine its results, except seed and plan.

    Attributes:
        parts: from the name of each part to its hash or, if it is short, its value. The name begins
            with the kind: "code:", "package:", "file:", "variable:", "setting:" or "data:".
    """

    parts: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """The hash of all parts: 64 hexadecimal digits (SHA-256)."""
        return hashlib.sha256(json.dumps(sorted(self.parts.items())).encode()).hexdigest()

    def names(self, kind: str) -> list[str]:
        """Return the names of all parts of a kind, without the kind."""
        return sorted(part.partition(":")[2] for part in self.parts if part.startswith(f"{kind}:"))


def describe_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return what differs between two lists of parts, a phrase for each part.

    >>> describe_changes({"package:numpy": "2.3"}, {"package:numpy": "2.4", "code:a.py": "0"})
    ['a.py was not imported before', 'package numpy 2.3 -> 2.4']
    """
    return list(_changes(before, now))


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for part in sorted({*before, *now}):
        old, new = before.get(part), now.get(part)
        if old == new:
            continue
        kind, _, name = part.partition(":")
        shown = {"package": f"package {name}", "variable": f"environment variable {name}"}.get(
            kind, name
        )
        if kind == "data":
            shown = f"the data of {name}"
        if old is None:
            yield f"{shown} {_APPEARED.get(kind, 'is new')}"
        elif new is None:
            yield f"{shown} {_DISAPPEARED.get(kind, 'is gone')}"
        elif kind in ("package", "setting") and not (_HASH.fullmatch(old) or _HASH.fullmatch(new)):
            yield f"{shown} {old} -> {new}"
        else:
            yield f"{shown} {'differ' if kind == 'data' else 'differs'}"


_APPEARED = {"code": "was not imported before", "package": "was not imported before"}
_DISAPPEARED = {"code": "is no longer imported", "package": "is no longer imported"}
_APPEARED |= {"file": "was not declared before", "variable": "was not declared before"}
_DISAPPEARED |= {"file": "is no longer declared", "variable": "is no longer declared"}
