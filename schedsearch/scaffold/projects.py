"""Starter projects: a space file and the module of its task, one project for each kind of task."""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from importlib.util import find_spec

from pydantic import TypeAdapter, ValidationError

from schedsearch.errors import InputError
from schedsearch.space.document import StudyName, check_new_study_name

#: The placeholder for the name of the project in the files of a kind.
_PLACEHOLDER = "NAME"
#: The suffixes of space files.
_SUFFIXES = (".toml", ".yaml", ".yml", ".json")


class Kind(StrEnum):
    """The kinds of starter projects; `kinds/` has a folder for each."""

    TASK = "task"
    LOOP = "loop"
    LIGHTNING = "lightning"
    TRANSFORMERS = "transformers"


#: The modules that a kind imports and that only the extra of the same name installs.
_NEEDS = {Kind.LIGHTNING: ("lightning",), Kind.TRANSFORMERS: ("transformers", "accelerate")}


def check_name(name: str) -> None:
    """Check the name of a project, which is also the name of its study and of its space file.

    Raises:
        InputError: a study cannot have this name, or it ends in the suffix of a space file.

    >>> check_name("my_study")
    """
    stem, _, suffix = name.rpartition(".")
    if stem and f".{suffix}" in _SUFFIXES:
        raise InputError(f"the name {name!r} must not have the suffix of a file: give {stem!r}")
    try:
        TypeAdapter(StudyName).validate_python(name)
    except ValidationError:
        raise InputError(
            f"the name {name!r} must consist of 1 to 128 letters, digits and the characters "
            "_ . @ + -"
        ) from None
    if rule := check_new_study_name(name):
        raise InputError(f"the name {name!r} {rule}")


def project_files(kind: Kind, name: str) -> dict[str, str]:
    """Return the text of each file of a starter project, by the file's name."""
    folder = files("schedsearch.scaffold") / "kinds" / kind.value
    named = {f"{name}.toml": "space.toml", "task.py": "task.py"}
    return {
        file: (folder / template).read_text(encoding="utf-8").replace(_PLACEHOLDER, name)
        for file, template in named.items()
    }


def missing_modules(kind: Kind) -> list[str]:
    """Return the modules that a project of this kind imports and that are not installed."""
    return [name for name in _NEEDS.get(kind, ()) if find_spec(name) is None]
