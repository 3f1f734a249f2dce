"""Detection of untrusted task code without running it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from schedsearch.task.loading import add_working_directory_to_path, parse_reference
from schedsearch.task.locations import is_installed

#: The environment variable that trusts the code of every task; worker processes inherit it.
TRUST_VARIABLE = "SCHEDSEARCH_TRUST_TASK"


def find_untrusted_code(reference: str) -> str | None:
    """Return the location of untrusted code that loading a task would run, or None.

    Built-in tasks and modules in the current folder are trusted; packages installed there are not.
    Importing a module also runs its parent packages, so these are checked too.

    Returns:
        A file or a description of the location; None if all code is trusted or no module is found.

    Raises:
        TaskError: the reference is not of the form MODULE:ATTRIBUTE.
    """
    module, _ = parse_reference(reference)
    if module.startswith("schedsearch.tasks."):
        return None
    add_working_directory_to_path()
    try:
        return next(filter(None, map(_untrusted_location, _specs_of_import(module))), None)
    except ValueError:  # a loaded module without a spec, such as __main__
        return "the running program"


def _specs_of_import(module: str) -> Iterator[ModuleSpec]:
    """Yield the specs of the modules that an import runs, parent packages first."""
    first, *others = module.split(".")
    spec = importlib.util.find_spec(first)
    for name in others:
        if spec is None:
            return
        yield spec
        # Only the last name: with a full name, a namespace package looks for its parent in
        # sys.modules, which has not been imported.
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations or ()))
    if spec is not None:
        yield spec


def _untrusted_location(spec: ModuleSpec) -> str | None:
    """Return the location of a module if it is untrusted; a namespace package has no code."""
    if spec.origin is None:
        return None
    if not spec.has_location:
        return "Python itself"
    file = Path(spec.origin).resolve()
    # Packages may be installed inside the current folder, in a virtual environment.
    return None if _is_in_current_folder(file) else str(file)


def _is_in_current_folder(file: Path) -> bool:
    return file.is_relative_to(Path.cwd().resolve()) and not is_installed(file)
