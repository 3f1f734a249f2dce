"""Task files whose names belong to other modules, which Python would import in their place."""

from __future__ import annotations

import re
import sys
import sysconfig
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from schedsearch.errors import TaskError
from schedsearch.task.locations import INSTALLED

_THIS_PACKAGE = Path(__file__).parents[1]


def refuse_name_clash(reference: str) -> None:
    """Refuse a task whose module's name imports other code than the file in the current folder.

    Raises:
        TaskError: the module is the running program, or a file in the current folder has the name
            of a module of Python, or of an installed module that schedsearch imports.
    """
    first = reference.partition(":")[0].partition(".")[0]
    if first == "__main__":
        raise TaskError(
            f"task {reference!r}: `__main__` is the running program, which workers cannot import: "
            "write the name of the task's file, such as `my_task:train` for my_task.py in the "
            "current folder"
        )
    here = Path.cwd()
    files = (here / first / "__init__.py", here / f"{first}.py")
    file = next((path for path in files if path.is_file()), None)
    other = None if file is None else _other_module(first, file)
    if file is not None and other is not None:
        raise TaskError(
            f"task {reference!r}: {file.relative_to(here)} has the name of {other}: rename it, "
            f"for instance to my_{first}, and write the new name in `task`"
        )


def _other_module(name: str, file: Path) -> str | None:
    """Return what a name stands for, if that is not the file."""
    if name in sys.stdlib_module_names:
        library = Path(sysconfig.get_path("stdlib")).resolve()
        is_library = file.resolve().is_relative_to(library)
        return None if is_library else f"Python's module `{name}`"
    origin = getattr(sys.modules.get(name), "__file__", None) or _installed_file(name)
    if origin is None or not Path(origin).is_file() or file.samefile(origin):
        return None
    path = Path(origin)
    # A module from another folder of the user is found as it was before.
    if path.is_relative_to(_THIS_PACKAGE) or not INSTALLED.isdisjoint(path.parts):
        return f"the module `{name}`, which schedsearch imports from {path}"
    return None


def _installed_file(name: str) -> str | None:
    """Return the file of an installed module that schedsearch may still import."""
    folders = [entry for entry in sys.path if not INSTALLED.isdisjoint(Path(entry).parts)]
    spec = PathFinder.find_spec(name, folders)
    return spec.origin if spec is not None and _is_required(name) else None


def _is_required(module: str) -> bool:
    """Return whether a module belongs to a package that schedsearch requires."""
    required: set[str] = set()
    pending = ["schedsearch"]
    while pending:
        package = _normalized(pending.pop())
        if package not in required:
            required.add(package)
            pending += _requirements(package)
    return not required.isdisjoint(map(_normalized, packages_distributions().get(module, [])))


def _requirements(package: str) -> list[str]:
    try:
        lines = requires(package) or []
    except PackageNotFoundError:
        return []
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line]


def _normalized(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
