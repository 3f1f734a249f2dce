"""Processes of this machine, as the kernel lists them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from schedsearch.cli.fork_server import NAME_OF_FORK


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    """Return the processes that any thread of a process started."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += [int(p) for p in (thread / "children").read_text().split()]
    return found


def descendants(pid: int) -> list[int]:
    """Return a process's children, their children, and so on."""
    return [below for child in children(pid) for below in (child, *descendants(child))]


def every_process() -> Iterator[tuple[int, str, str]]:
    """Yield the id, the command line and the environment of every process."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                texts = [(folder / name).read_text(errors="replace") for name in _TEXTS]
                yield int(folder.name), texts[0].replace("\0", " "), texts[1]


_TEXTS = ("cmdline", "environ")


def workers_of(storage: str) -> list[int]:
    """Return the worker processes of a database, wherever their parents are.

    A fork has the command line of the fork server. It is found while it has the database's file
    open, and not if the database is on a server.
    """
    file = storage.removeprefix("sqlite:///")
    return [
        pid
        for pid, command, environment in every_process()
        if (" schedsearch worker " in command and f"SCHEDSEARCH_STORAGE={storage}\0" in environment)
        or (is_forked_worker(pid) and file in open_files(pid))
    ]


def is_forked_worker(pid: int) -> bool:
    """Tell whether a process is a worker that the fork server started."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == NAME_OF_FORK
    return False


def open_files(pid: int) -> set[str]:
    """Return the names of the files that a process has open."""
    found: set[str] = set()
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                found.add(str(descriptor.readlink()))
    return found
