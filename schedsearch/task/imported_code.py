"""The code of a task: the modules that it imports, directly or not, and the installed packages."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

from schedsearch.task.locations import is_installed
from schedsearch.task.parsed_code import ParsedCode, parse_code, resolve_import

_OWN_NAME = "schedsearch"
_BUILT_IN_TASKS = "schedsearch.tasks"
#: schedsearch itself, whose releases must not lock studies, and torch, whose version is part of the
#: numerics.
_WITHOUT_VERSION = frozenset({_OWN_NAME, "torch"})


@dataclass(frozen=True)
class ImportedCode:
    """The code and packages that a task imports, directly or not.

    Attributes:
        files: the digest of each file that is not part of an installed package, by a name such as
            proj/models/net.py, which does not depend on the folder of the project.
        packages: the versions of the installed packages that these files import.
    """

    files: Mapping[str, str]
    packages: Mapping[str, str]


def find_imported_code(modules: Sequence[str], loaded: Iterable[str] = ()) -> ImportedCode:
    """Find the code of a task by its import statements, without running any.

    All import statements count, those in functions too. A built-in task consists of modules of
    `schedsearch.tasks` only, without versions: other packages only provide its data.

    Args:
        modules: those of the task, the one that its reference names first.
        loaded: modules that were loaded with the task. Those of installed packages do not count.
    """
    walk = _Walk(modules[0].partition(".")[0])
    walk.visit(modules)
    walk.visit(name for name in loaded if walk.has(name))
    versions = {} if walk.top == _OWN_NAME else dict(_versions(sorted(walk.installed_modules())))
    return ImportedCode(walk.files, versions)


@dataclass
class _Walk:
    """Visits modules and what they import.

    Attributes:
        top: the top-level package or module of the task, which may be installed.
        files: the digests of the visited files.
    """

    top: str
    files: dict[str, str] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    # The modules that were visited, and the imports that were not: whether each has a file.
    _visited: set[str] = field(default_factory=set)
    _skipped: dict[str, bool] = field(default_factory=dict)

    def visit(self, modules: Iterable[str]) -> None:
        pending = list(modules)
        while pending:
            name = pending.pop()
            if not name or name in self._seen:
                continue
            self._seen.add(name)
            # Importing a module also imports its parent packages.
            pending.append(name.rpartition(".")[0])
            file = _locate(name).file
            if file is not None and self._is_part(name, file):
                is_package = file.stem == "__init__"
                package = name if is_package else name.rpartition(".")[0]
                shown = name.replace(".", "/") + (f"/{file.name}" if is_package else file.suffix)
                self._visited.add(name)
                pending.extend(self._read(shown, file, package))
            else:
                self._skipped[name] = file is not None

    def has(self, name: str) -> bool:
        """Return whether a module is part of the task."""
        file = _locate(name).file
        return file is not None and self._is_part(name, file)

    def installed_modules(self) -> set[str]:
        """Return the imports from installed packages whose versions count."""
        without = _WITHOUT_VERSION | sys.stdlib_module_names
        tops = {name.partition(".")[0] for name in self._visited}
        return {
            name
            for name in self._skipped
            if (top := name.partition(".")[0]) not in without
            and (self._is_installed(name) or top not in tops)
        }

    def _is_installed(self, name: str) -> bool:
        """Return whether an import is an installed module or an attribute of one.

        The task and installed packages may have modules of one namespace package.
        """
        while name and name not in self._visited:
            if self._skipped.get(name):
                return True
            name = name.rpartition(".")[0]
        return False

    def _is_part(self, name: str, file: Path) -> bool:
        top = name.partition(".")[0]
        if top == _OWN_NAME:
            return f"{name}.".startswith(f"{_BUILT_IN_TASKS}.")
        if top in _WITHOUT_VERSION or self.top == _OWN_NAME:
            return False
        return top == self.top or not is_installed(file)

    def _read(
        self, shown: str, file: Path, package: str, callers: tuple[Path, ...] = ()
    ) -> Iterator[str]:
        """Add a file and the files that it runs, and yield the absolute names of its imports."""
        try:
            source = file.read_bytes()
        except OSError:
            return  # such as a module in a zip file
        code = parse_code(source)
        self.files[shown] = code.digest
        for name in code.imports:
            absolute = resolve_import(name, package) if name.startswith(".") else name
            if absolute is not None:
                yield absolute
        callers = (*callers, file)
        for name, path in _files_to_run(code, file):
            if path not in callers:
                yield from self._read(f"{shown} runs {name}", path, "", callers)


def _files_to_run(code: ParsedCode, file: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files that a module runs by path, found in the current folder or beside it."""
    for name in code.files:
        for folder in (Path.cwd(), file.parent):
            if (path := folder / name).is_file():
                yield name, path.resolve()
                break


# --- finding modules -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Location:
    """The file of a module, and the folders of its submodules."""

    file: Path | None = None
    folders: Sequence[str] = ()


def _locate(name: str) -> _Location:
    """Find a module without importing it."""
    module = sys.modules.get(name)
    if module is not None:
        file, folders = (
            getattr(module, "__dict__", {}).get(name) for name in ("__file__", "__path__")
        )
        return _Location(Path(file).resolve() if file else None, list(folders or ()))
    parent, _, last = name.rpartition(".")
    try:
        if not parent:
            spec = importlib.util.find_spec(name)
        elif folders := list(_locate(parent).folders):
            # Only the last name: with a full name, a namespace package looks for its parent in
            # sys.modules, which has not been imported.
            spec = PathFinder.find_spec(last, folders)
        else:
            return _Location()
    except (ImportError, ValueError, AttributeError):
        return _Location()
    if spec is None:
        return _Location()
    file = spec.origin if spec.has_location else None
    return _Location(
        Path(file).resolve() if file else None, list(spec.submodule_search_locations or ())
    )


# --- versions of packages ------------------------------------------------------------------------


def _versions(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the installed distributions that have these modules, with their versions."""
    by_package = _distributions()
    for name in names:
        found = by_package.get(name.partition(".")[0], ())
        for distribution in found:
            if len(found) == 1 or _has_module(distribution, name):
                yield distribution, importlib.metadata.version(distribution)


@cache
def _distributions() -> Mapping[str, Sequence[str]]:
    found = importlib.metadata.packages_distributions()
    return {package: sorted(set(names)) for package, names in found.items()}


def _has_module(distribution: str, name: str) -> bool:
    """Return whether a distribution has a module of a package that several of them share."""
    path = name.replace(".", "/")
    files = importlib.metadata.files(distribution) or ()
    return any(file.as_posix().startswith((f"{path}/", f"{path}.")) for file in files)
