"""Computes the fingerprint of a task: its code, packages, declared files, settings and data."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schedsearch.errors import TaskError
from schedsearch.task.fingerprint import Fingerprint
from schedsearch.task.imported_code import ImportedCode, find_imported_code
from schedsearch.task.live import live_code, live_task
from schedsearch.task.loading import (
    call_user_code,
    loaded_modules,
    parse_reference,
    track_imports,
)
from schedsearch.task.protocol import Task, TrainFunction, is_train_function
from schedsearch.task.task_data import data_bytes, fixed_torch_seed

#: Settings of at most so many characters are stored as they are, and longer ones as a hash.
_SHORT = 40


def fingerprint_task(
    task: Task | TrainFunction,
    reference: str,
    arguments: Mapping[str, Any],
    *,
    is_checked: bool = False,
) -> Fingerprint:
    """Return everything that determines the results of a task, except seed and plan.

    Parts are: each module that the task imports, directly or not, unless it is installed; the
    versions of the installed packages that these modules import; the declared files and environment
    variables; arguments, settings and defaults; for a Task the data of seed 0.

    Args:
        task: the task.
        reference: of the task.
        arguments: of its class.
        is_checked: whether `check_task` has tracked the imports of a model in this process, so that
            none is made here for that.

    Raises:
        TaskError: `data(0)` or `model(0)` raises an exception, a file of its code changes
            meanwhile, or a declared file cannot be read.
    """
    parts = dict(_setting_parts(task, reference))
    parts |= {f"setting:arguments.{name}": _short(value) for name, value in arguments.items()}
    if not is_train_function(task):
        digest = hashlib.sha256()
        unchanged = refuse_changed_code(task, reference, arguments)
        with unchanged, track_imports(reference, arguments):
            for piece in data_bytes(task):
                digest.update(piece)
            if not is_checked:
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
        shown = "not set" if value is None else hashlib.sha256(_encode(value)).hexdigest()
        parts[f"variable:{variable}"] = shown
    return parts


def _find_code(
    task: Task | TrainFunction, reference: str, arguments: Mapping[str, Any]
) -> ImportedCode:
    if live_task(reference) is not None:
        digests, used = live_code(reference)
        found = find_imported_code(["", *used], loaded_modules(reference, arguments))
        return ImportedCode({**found.files, **digests}, found.packages)
    module = parse_reference(reference)[0]
    owner = inspect.unwrap(task) if is_train_function(task) else type(task)
    modules = [module, getattr(owner, "__module__", module)]
    return find_imported_code(modules, loaded_modules(reference, arguments))


@contextmanager
def refuse_changed_code(
    task: Task | TrainFunction, reference: str, arguments: Mapping[str, Any]
) -> Iterator[None]:
    """Refuse a change of the task's code while its data is loaded, which may take minutes.

    The code that was imported before would otherwise get the fingerprint of the code afterwards.

    Raises:
        TaskError: a file of the code changed.
    """
    before = _find_code(task, reference, arguments).files
    yield
    now = _find_code(task, reference, arguments).files
    # A file is missing now if its module replaces itself in sys.modules.
    if changed := [name for name in sorted(before) if now.get(name, before[name]) != before[name]]:
        raise TaskError(
            f"task {reference!r}: {', '.join(changed)} changed while it was loaded: run the "
            "command again"
        )


def _make_model(task: Task) -> None:
    """Make a model as `check_task` does, so that the modules that this imports are loaded."""
    with fixed_torch_seed():
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
        for part in sorted(_files_in(path)):
            with part.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").digest()
            digest.update(_encode(f"{part.relative_to(path).as_posix()}\0") + content)
    except OSError as error:
        raise TaskError(
            f"task {reference!r}: the declared data file {os.fspath(file)!r} cannot be read: "
            f"{error.strerror} (relative paths begin in the current folder, {Path.cwd()})"
        ) from None
    return digest.hexdigest()


def _files_in(top: Path) -> Iterator[Path]:
    """Yield all files in a folder and in its subfolders, also in linked ones."""
    for name, subfolders, files in os.walk(top, followlinks=True):
        folder = Path(name)
        subfolders[:] = [each for each in subfolders if not _is_loop(folder / each, top)]
        yield from (folder / each for each in files if (folder / each).is_file())


def _is_loop(folder: Path, top: Path) -> bool:
    """Return whether a link leads to a folder that it is in."""
    if not folder.is_symlink():
        return False
    above = (top / each for each in folder.relative_to(top).parents)
    return folder.resolve() in {each.resolve() for each in above}


def _encode(text: str) -> bytes:
    """Return the bytes of a file name or a variable, which may be no valid UTF-8."""
    return text.encode("utf-8", "surrogateescape")
