"""Computes the fingerprint of a task: its code, packages, declared files, settings and data."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from schedsearch.errors import TaskError
from schedsearch.task.fingerprint import Fingerprint
from schedsearch.task.imported_code import ImportedCode, find_imported_code
from schedsearch.task.loading import (
    call_user_code,
    loaded_modules,
    parse_reference,
    track_imports,
)
from schedsearch.task.protocol import Task, TrainFunction, is_train_function
from schedsearch.task.task_data import data_bytes

#: Settings of at most so many characters are stored as they are, and longer ones as a hash.
_SHORT = 40


def fingerprint_task(
    task: Task | TrainFunction, reference: str, arguments: Mapping[str, Any]
) -> Fingerprint:
    """Return everything that determines the results of a task, except seed and plan.

    Parts are: each module that the task imports, directly or not, unless it is installed; the
    versions of the installed packages that these modules import; the declared files and environment
    variables; arguments, settings and defaults; for a Task the data of seed 0.

    Raises:
        TaskError: `data(0)` or `model(0)` raises an exception, or a declared file cannot be read.
    """
    parts = dict(_setting_parts(task, reference))
    parts |= {f"setting:arguments.{name}": _short(value) for name, value in arguments.items()}
    if not is_train_function(task):
        digest = hashlib.sha256()
        with track_imports(reference, arguments):
            for piece in data_bytes(task):
                digest.update(piece)
            _make_model(task)
        parts["data:seed 0"] = digest.hexdigest()
    return Fingerprint(parts | _code_parts(task, reference, arguments))


def describe_coverage(
    task: Task | TrainFunction, reference: str, arguments: Mapping[str, Any]
) -> Fingerprint:
    """Return the fingerprint without the data: the parts that `check` shows.

    Raises:
        TaskError: a declared file cannot be read.
    """
    return Fingerprint(_code_parts(task, reference, arguments))


def _code_parts(
    task: Task | TrainFunction, reference: str, arguments: Mapping[str, Any]
) -> dict[str, str]:
    """Return the parts of code, packages, declared files and declared variables."""
    found = _find_code(task, reference, arguments)
    parts = {f"code:{name}": digest for name, digest in found.files.items()}
    parts |= {f"package:{name}": version for name, version in found.packages.items()}
    for file in getattr(task, "data_files", ()):
        parts[f"file:{_portable_name(file, reference)}"] = _hash_file(file, reference)
    for variable in getattr(task, "environment", ()):
        value = os.environ.get(variable)
        shown = "not set" if value is None else hashlib.sha256(value.encode()).hexdigest()
        parts[f"variable:{variable}"] = shown
    return parts


def _find_code(
    task: Task | TrainFunction, reference: str, arguments: Mapping[str, Any]
) -> ImportedCode:
    module = parse_reference(reference)[0]
    owner = inspect.unwrap(task) if is_train_function(task) else type(task)
    modules = [module, getattr(owner, "__module__", module)]
    return find_imported_code(modules, loaded_modules(reference, arguments))


def _make_model(task: Task) -> None:
    """Make a model as `check_task` does, so that the modules that this imports are loaded."""
    import torch

    with torch.random.fork_rng():
        call_user_code(f"{type(task).__name__}.model(0)", lambda: task.model(0))


def _setting_parts(task: Task | TrainFunction, reference: str) -> Iterator[tuple[str, str]]:
    yield "setting:task", reference
    for name, value in task.hyperparameters.items():
        yield f"setting:hyperparameters.{name}", _short(float(value))
    if not is_train_function(task):
        yield "setting:optimizer", task.optimizer
        yield "setting:batch_size", _short(task.batch_size)
        yield "setting:steps_per_epoch", _short(task.steps_per_epoch)
        yield "setting:noise", _short({name: list(shape) for name, shape in task.noise.items()})


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=repr)
    return text if len(text) <= _SHORT else hashlib.sha256(text.encode()).hexdigest()


# --- declared files ------------------------------------------------------------------------------


def _portable_name(file: str | os.PathLike[str], reference: str) -> str:
    """Return the name of a declared file that is the same on all machines, if there is one.

    It is relative to the folder of the task's package, or to the current folder.
    """
    path = Path(file)
    if path.is_absolute():
        name = parse_reference(reference)[0].partition(".")[0]
        top = getattr(sys.modules.get(name), "__file__", None)
        package = Path(top).resolve().parent if top else Path.cwd()
        is_package = top is not None and Path(top).stem == "__init__"
        for folder in (package.parent if is_package else package, Path.cwd().resolve()):
            if path.resolve().is_relative_to(folder):
                return path.resolve().relative_to(folder).as_posix()
    return path.as_posix()


def _hash_file(file: str | os.PathLike[str], reference: str) -> str:
    """Return the hash of a file, or of all files in a folder with their names."""
    path = Path(file)
    digest = hashlib.sha256()
    try:
        if not path.is_dir():
            with path.open("rb") as opened:
                return hashlib.file_digest(opened, "sha256").hexdigest()
        for part in sorted(inside for inside in path.rglob("*") if inside.is_file()):
            with part.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").digest()
            digest.update(f"{part.relative_to(path).as_posix()}\0".encode() + content)
    except OSError as error:
        raise TaskError(
            f"task {reference!r}: the declared data file {os.fspath(file)!r} cannot be read: "
            f"{error.strerror} (relative paths begin in the current folder, {Path.cwd()})"
        ) from None
    return digest.hexdigest()
