"""How many processor cores this process may use, and the size of their cache."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

#: More threads than any machine has room for; torch would try to create them.
MAX_THREADS = 4096
_CGROUPS = Path("/sys/fs/cgroup")
_L2_SIZE = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")


def available_cores() -> int:
    """Return how many cores this process may use: its affinity and the quotas of its cgroups."""
    # macOS has no such function.
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, math.floor(min(cores, cgroup_cores(_own_cgroups()))))


def most_threads(workers: int, environment: Mapping[str, str] = os.environ) -> int:
    """Return how many threads each of the workers may use at most.

    The workers share the available cores, and OMP_NUM_THREADS is an upper bound.

    >>> most_threads(1, {"OMP_NUM_THREADS": "1"})
    1
    """
    share = max(1, available_cores() // max(1, workers))
    # OpenMP allows a list, one number for each level of nesting.
    bound = environment.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(share, int(bound)) if bound.isdecimal() and int(bound) else share


def thread_counts(most: int) -> tuple[int, ...]:
    """Return the numbers of threads worth trying: one, half of the most, and the most.

    >>> thread_counts(1), thread_counts(2), thread_counts(16)
    ((1,), (1, 2), (1, 8, 16))
    """
    return tuple(sorted({1, max(1, most // 2), most}))


def l2_cache_bytes(file: Path = _L2_SIZE) -> int:
    """Return the bytes of a core's second-level cache; one MiB if the system does not say."""
    [text] = _words(file) or ["1024K"]
    digits = text.rstrip("KM")
    unit = 2**20 if text.endswith("M") else 2**10
    return int(digits) * unit if digits.isdecimal() else 2**20


def cgroup_cores(own: Mapping[str, str], root: Path = _CGROUPS) -> float:
    """Return the processor time per second that the cgroups of a process allow, in cores.

    A group is also limited by all groups that contain it.

    Args:
        own: the group of the process by controller; "" is the hierarchy of version 2.
        root: where the hierarchies are mounted.

    Returns:
        Infinity without a limit.
    """
    limits = [math.inf]
    for group in _with_parents(root, own.get("")):
        limits.append(_quotient(_words(group / "cpu.max")))
    for group in _with_parents(root / "cpu", own.get("cpu")):
        quota, period = (_words(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        limits.append(_quotient([*quota, *period]))
    return min(limits)


def _own_cgroups() -> dict[str, str]:
    """Return the cgroup of this process by controller, from lines such as `4:cpu,cpuacct:/a`."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return {}
    fields = [line.split(":", 2) for line in lines]
    return {name: path for _, names, path in fields for name in names.split(",")}


def _with_parents(root: Path, group: str | None) -> Iterator[Path]:
    """Yield the folders of a cgroup and of those that contain it."""
    if group is None:
        return
    inside = Path(group.lstrip("/"))
    for path in (inside, *inside.parents):
        yield root / path


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _quotient(words: list[str]) -> float:
    """Return quota / period; infinity without a quota, which is written as `max` or -1."""
    if len(words) != 2 or not all(word.isdecimal() for word in words) or not int(words[1]):
        return math.inf
    return int(words[0]) / int(words[1]) or math.inf
