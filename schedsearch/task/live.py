"""Tasks that are given as objects: the class or function itself, such as one of a notebook."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from schedsearch.errors import TaskError
from schedsearch.task.parsed_code import parse_code

#: The module of objects that only this process has.
_MAIN = "__main__"
_LIVE: dict[str, Any] = {}


def reference_of(task: Any) -> str:
    """Return the reference of a class or function, which `load_task` finds in this process.

    A task at the top of a module has the reference "module:name", so that other processes find it
    as well. One of a notebook, and one within a function, exists in this process only.

    Raises:
        TaskError: it is neither a class nor a function.
    """
    if not (inspect.isclass(task) or inspect.isfunction(task)):
        raise TaskError(f"task {task!r}: give the class or the function itself, or MODULE:NAME")
    module, name = task.__module__, task.__qualname__
    if module != _MAIN and getattr(sys.modules.get(module), name, None) is task:
        return f"{module}:{name}"
    reference = f"{_MAIN}:{name.rpartition('.')[2]}"
    _LIVE[reference] = task
    return reference


def live_task(reference: str) -> Any | None:
    """Return the class or function with a reference if it was given as an object."""
    return _LIVE.get(reference)


def live_code(reference: str) -> tuple[dict[str, str], list[str]]:
    """Return the code of a task that was given as an object.

    Returns:
        The digests of its definition, and of the definitions of the same module that it uses, by
        name; and the names of the modules that they use.

    Raises:
        TaskError: the source is not known, as in an interactive interpreter.
    """
    digests: dict[str, str] = {}
    modules: list[str] = []
    pending = [_LIVE[reference]]
    while pending:
        definition = pending.pop()
        if (name := f"{definition.__qualname__} of {definition.__module__}") in digests:
            continue
        source = _source(definition)
        code = parse_code(source.encode())
        digests[name] = code.digest
        modules.extend(code.imports)
        for used in _used(source, definition):
            if isinstance(used, ModuleType):
                modules.append(used.__name__)
            elif getattr(used, "__module__", None) == definition.__module__:
                pending.append(used)
            else:
                modules.append(used.__module__)
    return digests, sorted(set(modules))


def _used(source: str, definition: Any) -> Iterator[Any]:
    """Yield the modules, classes and functions that a definition uses by their global names."""
    names = vars(sys.modules[definition.__module__])
    for node in ast.walk(ast.parse(source)):
        used = names.get(node.id) if isinstance(node, ast.Name) else None
        if inspect.ismodule(used) or inspect.isclass(used) or inspect.isfunction(used):
            yield used


def _source(definition: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(definition))
    except (OSError, TypeError):
        raise TaskError(
            f"task {definition.__qualname__}: its source is not known, so a changed version could "
            "not be told from it: define it in a file or in a cell of a notebook"
        ) from None
