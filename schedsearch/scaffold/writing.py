"""Writing new files into a folder without overwriting any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from schedsearch.errors import InputError


def write_new(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files into a folder, which is created if missing; write none if one of them exists.

    Raises:
        InputError: one of the files exists, or the folder cannot be written.
    """
    if existing := [str(found) for name in texts if (found := _conflict(folder / name))]:
        raise InputError(
            f"{', '.join(existing)}: already there, and `init` never overwrites a file: choose an "
            "empty folder with --folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be written: {error.strerror}") from None


def _conflict(path: Path) -> Path | None:
    """Return the existing path that conflicts with a new file: its own, or a package's."""
    # Python imports a package in place of a module of the same name.
    package = path.with_suffix("") / "__init__.py"
    hidden = path.suffix == ".py" and package.exists()
    return path if path.exists() else (package if hidden else None)
