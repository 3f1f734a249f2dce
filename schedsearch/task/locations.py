"""Where code comes from: an installed package, the standard library, or a working copy."""

from __future__ import annotations

import functools
import sysconfig
from pathlib import Path

#: Folders of installed packages; they may be inside the current folder (a virtual environment).
INSTALLED = frozenset({"site-packages", "dist-packages"})


def is_installed(file: Path) -> bool:
    """Return whether a resolved file belongs to an installed package or to Python itself."""
    return not INSTALLED.isdisjoint(file.parts) or any(
        file.is_relative_to(folder) for folder in _library_folders()
    )


@functools.cache
def _library_folders() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib")
    return tuple(Path(sysconfig.get_path(name)).resolve() for name in names)
