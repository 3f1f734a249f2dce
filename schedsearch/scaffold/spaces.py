"""The shipped spaces: one or more for each built-in task, installed with the package."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from schedsearch.errors import InputError, did_you_mean


def shipped_spaces() -> dict[str, str]:
    """Return a one-line description of each shipped space, by its name.

    >>> "label" in shipped_spaces()["smoothed_digits"]
    True
    """
    return {name: _read(name).partition("\n")[0].removeprefix("# ") for name in _names()}


def copy_of_space(name: str, new_name: str) -> str:
    """Return the text of a shipped space with the name of the study replaced.

    Raises:
        InputError: no shipped space has this name.
    """
    if name not in (names := _names()):
        hint = did_you_mean(name, names) or "`schedsearch init --list` shows all"
        raise InputError(f"there is no shipped space `{name}`: {hint}")
    return _read(name).replace(f'name = "{name}"', f'name = "{new_name}"', 1)


def _names() -> list[str]:
    found = (entry.name for entry in _folder().iterdir())
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def _read(name: str) -> str:
    return (_folder() / f"{name}.toml").read_text(encoding="utf-8")


def _folder() -> Traversable:
    """Return the folder in the installed package, or in the checkout, where it lies beside it."""
    installed = files("schedsearch") / "search_spaces"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "search_spaces"
