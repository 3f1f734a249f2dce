"""Loading of a task from a reference such as "module:attribute"."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar, cast, get_args

from schedsearch.errors import TaskError, did_you_mean
from schedsearch.exception_lines import describe_user_error
from schedsearch.task.live import live_task
from schedsearch.task.name_clash import refuse_name_clash
from schedsearch.task.protocol import OptimizerName, Task, TrainFunction, is_train_function

_T = TypeVar("_T")

#: The extra that installs a module.
_EXTRAS = {
    "sklearn": "tasks",
    "mlxtend": "tasks",
    "lightning": "lightning",
    "transformers": "transformers",
    "accelerate": "transformers",
}


def load_task(
    reference: str,
    arguments: Mapping[str, Any] = MappingProxyType({}),
    file: Path | str | None = None,
) -> Task | TrainFunction:
    """Return the task with the reference "module:attribute".

    Modules in the current folder can be imported. A class is called with the arguments; a function
    `train(run)` reads them from `run.arguments`, and has their defaults in `train.arguments`.

    Args:
        reference: of the task.
        arguments: of its class or function.
        file: the file that names the task; the error mentions a missing module that is beside it.

    Raises:
        TaskError: the module cannot be imported, or the attribute is missing or not a task.
    """
    with track_imports(reference, arguments):
        return _load(reference, arguments, file)


def _load(
    reference: str, arguments: Mapping[str, Any], file: Path | str | None
) -> Task | TrainFunction:
    attribute = parse_reference(reference)[1]
    found: Any = live_task(reference)
    if found is None:
        found = _find(reference, file)
    if inspect.isclass(found):
        # Check before the call: the reference may come from an untrusted file.
        missing = [name for name in _METHODS if _is_missing(found, name)]
        if missing and "__call__" not in vars(found):
            raise TaskError(
                f"task {reference!r}: {attribute} is not a task: it has no {', '.join(missing)}"
            )
        found = call_user_code(f"task {reference!r}: {attribute}(…)", lambda: found(**arguments))
    elif problem := _argument_problem(found, arguments):
        raise TaskError(f"task {reference!r}: {problem}")
    if problem := _problem(found):
        raise TaskError(f"task {reference!r}: {problem}")
    return cast("Task | TrainFunction", found)


def _find(reference: str, file: Path | str | None) -> Any:
    """Import the module of a reference, and return the attribute that it names."""
    module_name, attribute = parse_reference(reference)
    refuse_name_clash(reference)
    module = _import(reference, module_name, file)
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise TaskError(
            f"task {reference!r}: {module_name} has no `{attribute}`{_hint(attribute, public)}"
        )
    return getattr(module, attribute)


@contextmanager
def track_imports(reference: str, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Add the modules that are imported meanwhile to the `loaded_modules` of a task."""
    before = set(sys.modules)
    try:
        yield
    finally:
        found = _LOADED.setdefault(_loading_key(reference, arguments), set())
        found.update(sys.modules.keys() - before)


def loaded_modules(reference: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return the modules that a task imported in this process while it was tracked.

    A module that the process had imported before is missing, and so is a second name of a module:
    `multiprocessing` adds one for the program's main module.
    """
    found = _LOADED.get(_loading_key(reference, arguments), set())
    names = (getattr(sys.modules.get(name), "__name__", None) for name in found)
    return sorted(name for name in names if name in found)


def _loading_key(reference: str, arguments: Mapping[str, Any]) -> str:
    return f"{reference} {sorted(arguments.items())!r}"


_LOADED: dict[str, set[str]] = {}


def call_user_code(what: str, function: Callable[[], _T]) -> _T:
    """Return the result of a part of a task.

    Raises:
        TaskError: the part raises; the message names the part and the exception in one line.
    """
    try:
        return function()
    except Exception as error:
        raise TaskError(f"{what} raises {describe_user_error(error)}{_extra(error)}") from error


def parse_reference(reference: str) -> tuple[str, str]:
    """Return the module and the attribute of a reference "module:attribute".

    Raises:
        TaskError: the reference has another form.
    """
    module, _, attribute = reference.partition(":")
    if not (all(module.split(".")) and attribute):
        raise TaskError(
            f"task {reference!r} must be written MODULE:ATTRIBUTE, for instance "
            "schedsearch.tasks.noisy_digits:NoisyDigits"
        )
    return module, attribute


def add_working_directory_to_path() -> str:
    """Add the current folder to sys.path, and return it."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    return here


def _import(reference: str, name: str, file: Path | str | None) -> ModuleType:
    here = add_working_directory_to_path()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise TaskError(
                f"task {reference!r}: {name} needs the module `{error.name}`, which is missing"
                f"{_extra(error)}"
            ) from error
        parent, _, last = error.name.rpartition(".")
        path = getattr(sys.modules.get(parent), "__path__", None) if parent else [here]
        known = [module.name for module in pkgutil.iter_modules(path)]
        hint = _hint(last, known)
        hint = hint or _folder_hint(name, file)
        raise TaskError(f"task {reference!r}: there is no module `{error.name}`{hint}") from None
    except Exception as error:
        raise TaskError(
            f"task {reference!r}: importing {name} raises {describe_user_error(error)}"
        ) from error


def _extra(error: Exception) -> str:
    """Return how to install the module that an import did not find, if an extra has it; else ""."""
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    extra = _EXTRAS.get((name or "").partition(".")[0])
    return f": pip install 'schedsearch[{extra}]'" if extra else ""


def _hint(name: str, known: Iterable[str]) -> str:
    hint = did_you_mean(name, known)
    return f": {hint}" if hint else ""


def _folder_hint(name: str, file: Path | str | None) -> str:
    """Return what to do if a module lies beside the file that names it."""
    if file is None:
        return ""
    folder, first = Path(file).resolve().parent, name.partition(".")[0]
    for found in (folder / f"{first}.py", folder / first):
        if found.exists():
            return (
                f" in the current folder, but {found} exists: run the command in {folder}, or add "
                "this folder to PYTHONPATH"
            )
    return ""


def argument_defaults(task: Task | TrainFunction) -> dict[str, Any]:
    """Return the arguments of a task that have a default, which is text, a number or a boolean."""
    given: Mapping[str, Any] = function_arguments(task)
    if not inspect.isfunction(task):
        try:
            parameters = inspect.signature(type(task)).parameters.values()
        except (TypeError, ValueError):
            return {}
        given = {parameter.name: parameter.default for parameter in parameters}
    return {name: value for name, value in given.items() if isinstance(value, str | int | float)}


def function_arguments(task: Task | TrainFunction) -> Mapping[str, Any]:
    """Return `train.arguments` of a function: what it reads from `run.arguments`, with defaults."""
    given = getattr(task, "arguments", None) if inspect.isfunction(task) else None
    return dict(given) if isinstance(given, Mapping) else {}


def _argument_problem(found: Any, arguments: Mapping[str, Any]) -> str | None:
    """Return the reason why a function or an object does not take these arguments, or None."""
    if not arguments:
        return None
    name, known = getattr(found, "__name__", "train"), function_arguments(found)
    if not known:
        return (
            "only a class takes arguments, or a function with their defaults: set "
            f"{name}.arguments = {{…}}, or remove `arguments` from the file"
        )
    for argument in arguments:
        if argument not in known:
            hint = did_you_mean(argument, known) or "it has " + ", ".join(known)
            return f"{name}.arguments has no `{argument}`: {hint}"
    return None


def _problem(found: Any) -> str | None:
    """Return the reason why an object is not a task, without calling it, or None."""
    if is_train_function(found):
        if not hasattr(found, "hyperparameters"):
            name = getattr(found, "__name__", "train")
            return f"the function has no hyperparameters: set {name}.hyperparameters = {{…}}"
        return _hyperparameter_problem(found.hyperparameters) or _declaration_problem(found)
    missing = [name for name in _MEMBERS if _is_missing(found, name)]
    if missing:
        return f"{type(found).__name__} is not a task: it has no {', '.join(missing)}"
    if found.optimizer not in get_args(OptimizerName):
        names = ", ".join(get_args(OptimizerName))
        return f"the optimizer is {found.optimizer!r}, but must be one of {names}"
    if not _is_count(found.batch_size):
        return f"the batch_size is {found.batch_size!r}, but must be a whole number of at least 1"
    if found.steps_per_epoch is not None and not _is_count(found.steps_per_epoch):
        return (
            f"the steps_per_epoch is {found.steps_per_epoch!r}, but must be a whole number of at "
            "least 1, or None for one pass over the data"
        )
    if problem := _hyperparameter_problem(found.hyperparameters) or _declaration_problem(found):
        return problem
    if "lr" not in found.hyperparameters:
        return "the hyperparameters have no `lr`, which every optimizer needs"
    return None


_METHODS = ("data", "model", "terms", "metrics")
_MEMBERS = (
    "hyperparameters",
    "optimizer",
    "batch_size",
    "steps_per_epoch",
    "noise",
    *_METHODS,
)


def _is_missing(found: Any, name: str) -> bool:
    """Return whether an object lacks a member; a method inherited from Task counts as missing."""
    inherited = getattr(Task, name, None)
    return not hasattr(found, name) or (
        inspect.isfunction(inherited)
        and getattr(found if inspect.isclass(found) else type(found), name, None) is inherited
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _hyperparameter_problem(defaults: object) -> str | None:
    if not isinstance(defaults, Mapping):
        return f"hyperparameters is {defaults!r}, but must map names to their defaults"
    for name, value in defaults.items():
        if not isinstance(name, str):
            return f"a hyperparameter has the name {name!r}, but names must be strings"
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            return f"the default of `{name}` is {value!r}, but must be a finite number"
    return None


def _declaration_problem(found: Any) -> str | None:
    for name, kinds in (("data_files", (str, os.PathLike)), ("environment", (str,))):
        declared = getattr(found, name, ())
        is_list = isinstance(declared, Sequence | Set) and not isinstance(declared, str | bytes)
        if not is_list or not all(isinstance(item, kinds) and item for item in declared):
            return f"{name} is {declared!r}, but must be a list of names"
    return None
