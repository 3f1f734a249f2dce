"""The fingerprint of a task as version 0.1 computed it, for studies and configs of that time."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from schedsearch.task.protocol import Task, TrainFunction, is_train_function
from schedsearch.task.task_data import data_bytes


def legacy_fingerprint(
    task: Task | TrainFunction, reference: str, arguments: Mapping[str, Any]
) -> str:
    """Return the hash that version 0.1 stored: 64 hexadecimal digits (SHA-256).

    It covers the bytes of the module of the task and of the modules that it imports from the same
    folder, the arguments, the settings, and the data for seed 0. Never change what it returns.

    Raises:
        TaskError: `data(0)` raises an exception.
    """
    digest = hashlib.sha256()
    settings: dict[str, Any] = {
        "reference": reference,
        "arguments": dict(arguments),
        "hyperparameters": {name: float(v) for name, v in task.hyperparameters.items()},
    }
    owner = inspect.unwrap(task) if is_train_function(task) else type(task)
    for name, source in sorted(_sources(owner.__module__).items()):
        digest.update(f"{name}\0{len(source)}\0".encode() + source)
    if not is_train_function(task):
        settings["optimizer"] = task.optimizer
        settings["batch_size"] = task.batch_size
        settings["steps_per_epoch"] = task.steps_per_epoch
        settings["noise"] = {name: list(shape) for name, shape in task.noise.items()}
        for piece in data_bytes(task):
            digest.update(piece)
    digest.update(json.dumps(settings, sort_keys=True, default=repr).encode())
    return digest.hexdigest()


def _sources(module: str) -> dict[str, bytes]:
    """Return the sources of a module and of all modules that it imports from the same folder.

    Modules are found by path and not in sys.modules, because a function may import a module later.
    """
    loaded = sys.modules[module]
    if loaded.__file__ is None:
        return {}
    folder, package = Path(loaded.__file__).parent, loaded.__package__ or ""
    sources: dict[str, bytes] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        path = _file_of(name, folder, package)
        if name not in sources and path is not None:
            sources[name] = path.read_bytes()
            parent = name if path.name == "__init__.py" else name.rpartition(".")[0]
            pending.extend(_imported_names(sources[name], parent))
    return sources


def _file_of(name: str, folder: Path, package: str) -> Path | None:
    """Return the file of a module if it is in `folder`, the folder of `package`."""
    if name == package:
        init = folder / "__init__.py"
        return init if init.is_file() else None
    prefix = f"{package}." if package else ""
    if not name.startswith(prefix):
        return None
    stem = folder.joinpath(*name.removeprefix(prefix).split("."))
    candidates = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _imported_names(source: bytes, package: str) -> Iterator[str]:
    """Yield the full name of every import: a module, or an attribute of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(relative, package) if node.level else relative
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
