"""What only running a task can tell: whether it is one, and which one it is."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedsearch.errors import TaskError
from schedsearch.task import (
    Examples,
    Splits,
    Task,
    TrainFunction,
    call_user_code,
    count_examples,
    count_steps,
    is_train_function,
)

if TYPE_CHECKING:
    from torch import Tensor


def check_task(task: Task | TrainFunction) -> None:
    """Try a task: its data, its model, the loss terms of one batch, and the validation metrics.

    A training loop of the user's own cannot be tried without training, and is not.

    Raises:
        TaskError: one of the parts raises, or is not what the protocol says.
    """
    if is_train_function(task):
        return
    import torch
    from torch import nn

    name = type(task).__name__
    with torch.random.fork_rng():
        splits = call_user_code(f"{name}.data(0)", lambda: task.data(0))
        if not isinstance(splits, Splits):
            raise TaskError(f"{name}.data must return Splits, not {type(splits).__name__}")
        for split in (splits.train, splits.validation, splits.test):
            count_examples(split)
        count_steps(task, count_examples(splits.train))
        model = call_user_code(f"{name}.model(0)", lambda: task.model(0))
        if not isinstance(model, nn.Module):
            raise TaskError(f"{name}.model must return a Module, not {type(model).__name__}")
        terms = _first_terms(task, model, splits)
        _check_terms(task, terms)
        with torch.no_grad():
            model.eval()
            metrics = call_user_code(
                f"{name}.metrics", lambda: task.metrics(model, splits.validation)
            )
    _check_numbers(f"{name}.metrics", metrics)


def _first_terms(task: Task, model: Any, splits: Splits) -> Mapping[str, Tensor]:
    import torch

    batch = {name: tensor[: task.batch_size] for name, tensor in splits.train.items()}
    hp = {name: torch.tensor(float(value)) for name, value in task.hyperparameters.items()}
    noise = {name: torch.randn(shape) for name, shape in task.noise.items()}
    return call_user_code(
        f"{type(task).__name__}.terms", lambda: task.terms(model, batch, hp, noise)
    )


def _check_terms(task: Task, terms: Mapping[str, Tensor]) -> None:
    what = f"{type(task).__name__}.terms"
    _check_numbers(what, terms)
    for name in task.hyperparameters:
        term = name.removeprefix("weights.")
        if term != name and term not in terms:
            raise TaskError(
                f"the hyperparameter `{name}` weighs no loss term: {what} returns "
                f"{', '.join(terms)}"
            )
    if not any(getattr(term, "requires_grad", False) for term in terms.values()):
        raise TaskError(f"{what}: no term depends on the model's parameters")


def _check_numbers(what: str, given: object) -> None:
    if not isinstance(given, Mapping) or not given:
        raise TaskError(f"{what} must return a dict of 0-d tensors by name, not {given!r}")
    for name, value in given.items():
        shape = getattr(value, "shape", None)
        if shape is None and not isinstance(value, Real):
            raise TaskError(f"{what}: `{name}` is {value!r}, but must be a 0-d tensor")
        if shape is not None and len(shape):
            raise TaskError(f"{what}: `{name}` has the shape {tuple(shape)}, but must be 0-d")


def fingerprint(task: Task | TrainFunction, reference: str, arguments: Mapping[str, Any]) -> str:
    """Return a hash of everything that decides what a training gives, but seed and schedules.

    Hashed are the source of the task's module and of the modules that it imports from its own
    folder, the arguments, the task's settings and defaults, and its data for seed 0. Of a training
    loop of the user's own: sources and defaults. A comment changes it too.

    Returns:
        64 hexadecimal digits (SHA-256).

    Raises:
        TaskError: the task's data cannot be made.
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
        for piece in _data_bytes(task):
            digest.update(piece)
    digest.update(json.dumps(settings, sort_keys=True, default=repr).encode())
    return digest.hexdigest()


def _sources(module: str) -> dict[str, bytes]:
    """Return the source of a module, and of those it imports, directly or not, from its folder.

    Found by their paths, not among the loaded modules: what a function imports only when it runs
    counts from the start.
    """
    loaded = sys.modules[module]
    if loaded.__file__ is None:
        return {}
    folder, package = Path(loaded.__file__).parent, loaded.__package__ or ""
    sources: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(name, folder, package)
        if name not in sources and path is not None:
            sources[name] = path.read_bytes()
            own_package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            waiting.extend(_imported(sources[name], own_package))
    return sources


def _file_of(name: str, folder: Path, package: str) -> Path | None:
    """Return the file of a module if it lies in the folder, which holds the package."""
    if name == package:
        return folder / "__init__.py"
    prefix = f"{package}." if package else ""
    if not name.startswith(prefix):
        return None
    stem = folder.joinpath(*name.removeprefix(prefix).split("."))
    candidates = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _imported(source: bytes, package: str) -> Iterator[str]:
    """Yield every name that a source imports, which may or may not be that of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(relative, package) if node.level else relative
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _data_bytes(task: Task) -> Iterator[bytes]:
    import torch

    splits = call_user_code(f"{type(task).__name__}.data(0)", lambda: task.data(0))
    for part in ("train", "validation", "test"):
        split: Examples = getattr(splits, part)
        for name, tensor in sorted(split.items()):
            yield f"{part}.{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            yield flat.view(torch.uint8).numpy().tobytes()
