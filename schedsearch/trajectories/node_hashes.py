"""Names of trajectories: equal names were trained alike, whoever trained them, in any study."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def root_of(
    fingerprint: str, seed: int, numerics: Mapping[str, Any], horizon: int | None = None
) -> str:
    """Return the name of a run before its first epoch: 32 hexadecimal digits (BLAKE2b).

    Args:
        fingerprint: the task's, see `task.fingerprint`.
        seed: the run's.
        numerics: all that changes bits, see `numerics_here`.
        horizon: of a loop of the user's own, which sees it; a task does not.

    >>> root_of("f", 0, {"threads": 1}) == root_of("f", 0, {"threads": 1})
    True
    >>> root_of("f", 0, {"threads": 1}) == root_of("f", 0, {"threads": 2})
    False
    """
    named = {
        "fingerprint": fingerprint,
        "seed": seed,
        "numerics": dict(numerics),
        "horizon": horizon,
    }
    return _hash(json.dumps(named, sort_keys=True).encode())


def child_of(parent: str, key: bytes) -> str:
    """Return the name of what an epoch makes of a run.

    name(child) = BLAKE2b(name(parent) + key)

    Args:
        parent: the run's name before the epoch.
        key: the values in force, see `Engine.key`.
    """
    return _hash(bytes.fromhex(parent) + key)


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
