"""The compiled steps of a database's studies, kept in a folder beside the database.

So the second worker, the next start and `confirm` load a step instead of compiling it. The folder
is the cache of torch's compiler, which several processes may use at once. It holds code that is
executed, so it is used only after the user has allowed the task's code, and only if it belongs to
the user and no other user can write to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schedsearch.numerics import current_numerics
from schedsearch.storage import Database
from schedsearch.trajectories.settings import compiled_folder

#: The variable of torch for the folder of its compiler's cache.
_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
_WRITABLE_BY_OTHERS = 0o022
#: macOS has no such flag.
_NOEXEC = getattr(os, "ST_NOEXEC", 0)


@contextmanager
def kept_compiled_code(database: Database) -> Iterator[None]:
    """Keep what is compiled in the block beside a database, unless the user has set a folder.

    Without a folder that this user alone can write to, and that code can be loaded from, torch
    keeps it where it does by default.
    """
    folder = None if os.environ.get(_VARIABLE) else _private_folder(database)
    if folder is None:
        yield
        return
    os.environ[_VARIABLE] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE, None)


def has_compiled_code() -> bool:
    """Return whether the folder in use, within `kept_compiled_code`, has any compiled code."""
    folder = os.environ.get(_VARIABLE)
    # Unlike iterdir, glob raises nothing if the folder is missing or cannot be read.
    return folder is not None and any(Path(folder).glob("*"))


def _private_folder(database: Database) -> Path | None:
    """Return the folder for code that is compiled on this machine; None if it cannot be used."""
    folder = compiled_folder(database.url, database.folder).absolute()
    inside = folder / _machine()
    try:
        for path in (folder, inside):
            path.mkdir(mode=0o700, exist_ok=True)
        # From such a file system no compiled code can be loaded.
        if os.statvfs(inside).f_flag & _NOEXEC:
            return None
        return inside if all(map(_is_private, (folder, inside))) else None
    except OSError:
        return None


def _is_private(folder: Path) -> bool:
    found = folder.lstat()
    return found.st_uid == os.getuid() and not found.st_mode & _WRITABLE_BY_OTHERS


def _machine() -> str:
    """Return a name for all that compiled code depends on, beside what torch's cache compares."""
    numerics = current_numerics("lanes")
    parts = {
        **{key: numerics[key] for key in ("processor", "torch")},
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
