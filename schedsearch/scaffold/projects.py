"""Starter projects: a space file and the module of its task, one project for each kind of task."""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from importlib.util import find_spec

from pydantic import TypeAdapter, ValidationError

from schedsearch.errors import InputError
from schedsearch.space.document import StudyName

#: What stands in the files of a kind for the name of the project.
_PLACEHOLDER = "NAME"
#: What a space file's name may end in.
_SUFFIXES = (".toml", ".yaml", ".yml", ".json")


class Kind(StrEnum):
    """What trains: a task, a training loop, or a framework. Each is a folder of `kinds/`."""

    TASK = "task"
    LOOP = "loop"
    LIGHTNING = "lightning"
    TRANSFORMERS = "transformers"


#: The modules that a kind imports beyond what schedsearch needs; its extra has the kind's name.
_NEEDS = {Kind.LIGHTNING: ("lightning",), Kind.TRANSFORMERS: ("transformers", "accelerate")}


def check_name(name: str) -> None:
    """Check that a project can have a name: it becomes the study's, and the space file's.

    Raises:
        InputError: a study cannot have it, or it is the name of a file.

    >>> check_name("my_study")
    """
    if name.endswith(_SUFFIXES):
        stem = name.rpartition(".")[0]
        raise InputError(f"the name {name!r} is that of a file: give {stem!r}, without the suffix")
    try:
        TypeAdapter(StudyName).validate_python(name)
    except ValidationError:
        raise InputError(
            f"the name {name!r} must have 1 to 128 characters, of letters, digits and _ . @ + -"
        ) from None


def project_files(kind: Kind, name: str) -> dict[str, str]:
    """Return the text of each file of a starter project, by the file's name."""
    folder = files("schedsearch.scaffold") / "kinds" / kind.value
    named = {f"{name}.toml": "space.toml", "task.py": "task.py"}
    return {
        file: (folder / template).read_text(encoding="utf-8").replace(_PLACEHOLDER, name)
        for file, template in named.items()
    }


def missing_modules(kind: Kind) -> list[str]:
    """Return the modules that a project of this kind imports, and that are not installed."""
    return [name for name in _NEEDS.get(kind, ()) if find_spec(name) is None]
