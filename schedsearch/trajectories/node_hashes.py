"""Hashes of trajectories: equal hashes mean equal trainings, in any study and by any worker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


def root_hash(
    fingerprint: str,
    seed: int,
    numerics: Mapping[str, Any],
    horizon: int | None = None,
    arguments: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Return the hash of a run before its first epoch: 32 hexadecimal digits (BLAKE2b).

    Args:
        fingerprint: of the task, see `task.fingerprint`.
        seed: of the run.
        numerics: see `current_numerics`.
        horizon: of a training loop, which can read it; None for a task, which cannot.
        arguments: of the plan; those of the task are in its fingerprint.

    >>> root_hash("f", 0, {"threads": 1}) == root_hash("f", 0, {"threads": 1})
    True
    >>> root_hash("f", 0, {"threads": 1}) == root_hash("f", 0, {"threads": 2})
    False
    """
    identity = {
        "fingerprint": fingerprint,
        "seed": seed,
        "numerics": dict(numerics),
        "horizon": horizon,
        # Without arguments, so that the epochs that earlier versions cached are found.
        **({"arguments": dict(arguments)} if arguments else {}),
    }
    return _hash(json.dumps(identity, sort_keys=True).encode())


def child_hash(parent: str, key: bytes) -> str:
    """Return the hash of a run after one more epoch.

    hash(child) = BLAKE2b(hash(parent) + key)

    Args:
        parent: the hash before the epoch.
        key: the values of the epoch, see `Engine.key`.
    """
    return _hash(bytes.fromhex(parent) + key)


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
