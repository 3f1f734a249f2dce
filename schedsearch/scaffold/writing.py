"""Writing new files into a folder, and never over what is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from schedsearch.errors import InputError


def write_new(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files into a folder, which is made if it is missing; none if one of them is there.

    Raises:
        InputError: one of them is there already, or the folder cannot be written.
    """
    if taken := [str(found) for name in texts if (found := _taken_by(folder / name))]:
        raise InputError(
            f"{', '.join(taken)}: already there, and `init` overwrites nothing: choose another "
            "name, or another folder by --folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be written: {error.strerror}") from None


def _taken_by(path: Path) -> Path | None:
    """Return what stands in the way of a file: itself, or a package that hides the module."""
    package = path.with_suffix("") / "__init__.py"
    hidden = path.suffix == ".py" and package.exists()
    return path if path.exists() else (package if hidden else None)
