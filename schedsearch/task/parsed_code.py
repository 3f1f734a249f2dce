"""The code of a module as it is parsed: a digest without comments, and the names it imports."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

#: Functions that import a module whose name they are given as text.
_IMPORTERS = frozenset({"import_module", "__import__", "resolve_name", "run_module"})
#: Functions that run a file whose path they are given as text.
_FILE_RUNNERS = frozenset({"spec_from_file_location", "run_path", "SourceFileLoader"})
_DOTTED_NAME = re.compile(r"\.*[^\W\d]\w*(\.[^\W\d]\w*)*")
#: Fields of nodes that do not change what the code does, or that not all versions of Python have.
_IGNORED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
#: Larger integers count in hexadecimal: Python limits the digits of decimal ones, to 640 at least.
_DECIMAL_BITS = 2000


@dataclass(frozen=True)
class ParsedCode:
    """The parts of a module's source that count.

    Attributes:
        digest: a hash of the code: 64 hexadecimal digits (SHA-256).
        imports: the names of its import statements: relative ones begin with dots. The attribute of
            `from a import b` is in the form a.b, since it may be a module.
        files: the paths of files that it may run.
    """

    digest: str
    imports: frozenset[str]
    files: frozenset[str] = frozenset()


@functools.lru_cache(maxsize=1024)
def parse_code(source: bytes) -> ParsedCode:
    """Parse the source of a module; what is no Python source counts with all its bytes.

    Comments, docstrings, blank lines and formatting do not change the digest. It is the same in all
    supported versions of Python, unless the source has constructs that these parse differently.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ParsedCode(hashlib.sha256(source).hexdigest(), frozenset())
    nodes = list(_executed_nodes(tree))
    importers = _IMPORTERS | set(_aliases(nodes, _IMPORTERS))
    mentioned = set(_identifiers(nodes))
    imports = set(_imported_names(nodes))
    for node in nodes:
        if isinstance(node, ast.Call) and _name(node.func) in importers:
            imports.update(_names_in_call(node))
    if not mentioned.isdisjoint(importers):
        # Such as the values of a dict from which the code chooses the module to import.
        imports.update(_module_names(nodes, needs_dot=True))
    files = set(_python_files(nodes)) if not mentioned.isdisjoint(_FILE_RUNNERS) else set()
    return ParsedCode(_digest(tree), frozenset(imports), frozenset(files))


def resolve_import(name: str, package: str) -> str | None:
    """Return the absolute name of an import in a module of a package; None if there is none.

    >>> resolve_import("..other.A", "proj.tasks")
    'proj.other.A'
    """
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:
        return None


# --- imports -------------------------------------------------------------------------------------


def _executed_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes, except those that only a type checker reads."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.If) and _name(node.test) == "TYPE_CHECKING":
            pending.extend(node.orelse)
        else:
            pending.extend(ast.iter_child_nodes(node))


def _imported_names(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            dot = "." if node.module else ""
            yield from (f"{base}{dot}{alias.name}" for alias in node.names if alias.name != "*")


def _aliases(nodes: list[ast.AST], functions: frozenset[str]) -> Iterator[str]:
    """Yield the names under which functions are imported with `as`."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            yield from (
                alias.asname for alias in node.names if alias.asname and alias.name in functions
            )


def _identifiers(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        elif (name := _name(node)) is not None:
            yield name


def _name(node: ast.AST) -> str | None:
    """Return the last part of a name such as `typing.TYPE_CHECKING`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _module_names(nodes: Iterable[ast.AST], *, needs_dot: bool) -> Iterator[str]:
    """Yield the texts that may name a module, or an attribute of one after a colon."""
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            if _DOTTED_NAME.fullmatch(name) and ("." in name or not needs_dot):
                yield name


def _names_in_call(call: ast.Call) -> Iterator[str]:
    """Yield the module that a call such as `import_module(".net", "proj.models")` imports."""
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    first, *others = [*_module_names(arguments, needs_dot=False)] or [""]
    if first.startswith(".") and others:
        first = resolve_import(first, others[0]) or first
    if first:
        yield first


def _python_files(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and value.endswith(".py") and "\n" not in value:
            yield value


# --- the digest ----------------------------------------------------------------------------------


def _digest(tree: ast.AST) -> str:
    """Return a hash of a syntax tree, without statements that do nothing.

    Such statements are `pass`, docstrings and other constants. `ast.dump` would not do: its text
    depends on the version of Python, and it recurses.
    """
    digest = hashlib.sha256()
    pending: list[object] = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, ast.AST):
            digest.update(f"({type(item).__name__}".encode())
            pending.append(")")
            for name, value in reversed(list(ast.iter_fields(item))):
                if name not in _IGNORED_FIELDS and value is not None and value != []:
                    pending.extend((value, f"{name}="))
        elif isinstance(item, list):
            digest.update(b"[")
            pending.append("]")
            pending.extend(child for child in reversed(item) if not _does_nothing(child))
        elif isinstance(item, str):
            digest.update(f"{len(item)}:{item}".encode("utf-8", "surrogatepass"))
        else:
            digest.update(f"{type(item).__name__} {_shown_constant(item)};".encode())
    return digest.hexdigest()


def _shown_constant(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > _DECIMAL_BITS:
        return hex(value)
    return repr(value)


def _does_nothing(node: object) -> bool:
    is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_constant or isinstance(node, ast.Pass)
