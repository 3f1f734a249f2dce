"""The identity of a process, by which another process of the same host sees that it has ended."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path

_PROC = Path("/proc")
#: The states of a process that has ended, in /proc/PID/stat.
_ENDED = ("Z", "X")
#: The states of a suspended process there; in the second, a debugger has stopped it.
_SUSPENDED = ("T", "t")


@dataclass(frozen=True)
class ProcessIdentity:
    """Identifies one process among all processes of all hosts.

    Attributes:
        host: the name of the host.
        boot: the id that the kernel made when the host started.
        namespace: the namespace of process ids: each container has another one.
        pid: the process id.
        started: when the process started, in ticks since the host started.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: int

    @classmethod
    def current(cls) -> ProcessIdentity | None:
        """Return the identity of this process; None on systems without /proc."""
        pid = os.getpid()
        place, found = _place_of(pid), _state_and_start(pid)
        return None if place is None or found is None else cls(*place, pid, found[1])

    @classmethod
    def parse(cls, text: str | None) -> ProcessIdentity | None:
        """Return an identity from its text; None if the text is none: a stranger may write it."""
        try:
            given = json.loads(text or "null")
            types = {field.name: str(field.type) for field in fields(cls)}
            if given.keys() != types.keys():
                return None
            if any(type(given[name]).__name__ != kind for name, kind in types.items()):
                return None
        except (AttributeError, RecursionError, ValueError):
            return None
        return cls(**given)

    def to_text(self) -> str:
        """Return the identity as a text for an attribute."""
        return json.dumps(asdict(self))

    def is_here(self) -> bool:
        """Return whether this process can see the other one: same host, boot and namespace."""
        return (self.host, self.boot, self.namespace) == _place_of(os.getpid())

    def is_alive(self) -> bool | None:
        """Return whether the process runs or is suspended; None if that cannot be seen from here.

        >>> ProcessIdentity.current().is_alive()
        True
        """
        if not self.is_here() or self.pid <= 0:
            return None
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass  # a process of another user
        found = _state_and_start(self.pid)
        if found is None:
            # It exists, or ended just now; /proc may hide processes of other users.
            return True
        state, started = found
        return state not in _ENDED and started == self.started

    def is_suspended(self) -> bool:
        """Return whether the process is on this host and suspended, so it cannot write."""
        found = _state_and_start(self.pid) if self.is_here() and self.pid > 0 else None
        return found is not None and found[0] in _SUSPENDED and found[1] == self.started


@lru_cache(maxsize=1)
def _place_of(pid: int) -> tuple[str, str, str] | None:
    """Return the host, the boot and the namespace of this process; None without /proc.

    Args:
        pid: of this process, since a fork of it may be in another namespace.
    """
    try:
        # /proc may belong to another namespace: then its process ids mean other processes.
        if str((_PROC / "self").readlink()) != str(pid):
            return None
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return None
    return os.uname().nodename, boot, namespace


def _state_and_start(pid: int) -> tuple[str, int] | None:
    """Return the state of a process, and when it started; None if that cannot be read."""
    try:
        # The name in parentheses may contain blanks and parentheses.
        after_name = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2]
    except OSError:
        return None
    columns = after_name.split()
    return columns[0], int(columns[19])
