"""Whose code a task is: found without running any of it."""

from __future__ import annotations

import importlib.util
import sysconfig
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from schedsearch.task.loading import add_working_directory_to_path, parse_reference

#: The environment variable that lets any task's code run; what was let run passes it on.
TRUST_VARIABLE = "SCHEDSEARCH_TRUST_TASK"
#: Installed packages lie in folders of these names, which may themselves lie in the user's own.
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def find_untrusted_code(reference: str) -> str | None:
    """Return where code lies that loading a task would run, if it is not the user's own.

    Own are the built-in tasks, and modules that lie under the current folder, but not what is
    installed there. A module runs the packages that it lies in too, so each of them is looked at.

    Returns:
        A file, or words; None if all is the user's own, or nothing is there.

    Raises:
        TaskError: the reference is not written MODULE:ATTRIBUTE.
    """
    module, _ = parse_reference(reference)
    if module.startswith("schedsearch.tasks."):
        return None
    add_working_directory_to_path()
    try:
        return next(filter(None, map(_foreign, _run_by(module))), None)
    except ValueError:  # what is loaded and was not found anywhere, such as __main__
        return "the running program"


def _run_by(module: str) -> Iterator[ModuleSpec]:
    """Yield what importing a module runs, as far as it is found: outer packages first."""
    first, *others = module.split(".")
    spec = importlib.util.find_spec(first)
    for name in others:
        if spec is None:
            return
        yield spec
        # By its last name alone: the full one is looked up among what is loaded already.
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations or ()))
    if spec is not None:
        yield spec


def _foreign(spec: ModuleSpec) -> str | None:
    """Return where a module lies if it is not the user's own; a folder without code is nobody's."""
    if spec.origin is None:
        return None
    if not spec.has_location:
        return "Python itself"
    place = Path(spec.origin).resolve()
    return None if _is_own(place) else str(place)


def _is_own(place: Path) -> bool:
    library = (Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
    return (
        place.is_relative_to(Path.cwd().resolve())
        and _INSTALLED.isdisjoint(place.parts)
        and not any(place.is_relative_to(folder) for folder in library)
    )
