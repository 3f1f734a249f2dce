"""Reading and writing documents: TOML, YAML and JSON, told apart by the file's suffix.

The three formats read alike: what only one of them can say (a date, an alias, NaN, one key twice)
is refused.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
import yaml

from schedsearch.errors import FileError, InputError, Problem

_T = TypeVar("_T")

#: Tables within tables: more than any schedule needs, and few enough to walk through.
_DEEPEST = 50
#: What TOML guarantees for a whole number: 64 bits.
_LARGEST = 2**63
#: Bytes of a file: the longest of configs have a value for each epoch.
_LONGEST = 2**20
_KEY = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+"""
#: The standard library takes hours for a key of a hundred thousand parts.
_LONG_KEY = re.compile(rf"(?<![\w-])(?:{_KEY}\.[ \t]*+){{{_DEEPEST}}}")


class _YamlLoader(yaml.SafeLoader):
    """YAML as strict as TOML: no aliases (a few lines of them expand without end), no key twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read: write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        _refuse_repeats(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        return super().construct_mapping(node, deep)


class _YamlDumper(yaml.SafeDumper):
    """YAML that writes a value out wherever it stands, and never as an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _table_of_json(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_repeats(key for key, _ in pairs)
    return dict(pairs)


def _refuse_repeats(keys: Iterable[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"the key `{key}` stands twice in one table")
        seen.add(key)


def _read_yaml(text: str) -> Any:
    return yaml.load(text, _YamlLoader)


def _write_yaml(document: Mapping[str, Any]) -> str:
    return yaml.dump(dict(document), Dumper=_YamlDumper, sort_keys=False)


def _read_toml(text: str) -> Any:
    if _LONG_KEY.search(text):
        raise ValueError(f"nested deeper than {_DEEPEST} tables")
    return tomllib.loads(text)


_READERS: Mapping[str, Callable[[str], Any]] = {
    ".toml": _read_toml,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".json": lambda text: json.loads(text, object_pairs_hook=_table_of_json),
}
_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    ".toml": tomli_w.dumps,
    ".yaml": _write_yaml,
    ".yml": _write_yaml,
    ".json": lambda document: json.dumps(document, indent=2, allow_nan=False) + "\n",
}


def read_document(path: Path) -> dict[str, Any]:
    """Return the table that a file holds: tables, lists, text, finite numbers, true and false.

    Raises:
        InputError: the file is missing, unreadable, of another format, or not a table.
        FileError: a value is none of these.
    """
    reader = _by_suffix(path, _READERS)
    try:
        document = reader(_text(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text in UTF-8") from None
    except RecursionError:
        raise InputError(f"{path}: nested deeper than {_DEEPEST} tables") from None
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not valid {path.suffix[1:].upper()}: {reason}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: must hold a table of keys, not {type(document).__name__}")
    if problems := list(_unreadable(document, ())):
        raise FileError(str(path), problems)
    return document


def _text(path: Path) -> str:
    # What is no plain file, such as a pipe, may have no end.
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    with path.open(encoding="utf-8-sig") as file:
        text = file.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        raise InputError(f"{path}: is longer than {_LONGEST:,} characters: no space or config is")
    return text


def _unreadable(value: Any, path: tuple[str, ...]) -> Iterator[Problem]:
    """Yield what is neither a table, a list, nor a plain value."""
    key = ".".join(path)
    if len(path) > _DEEPEST:
        yield Problem(".".join(path[:3]) + ".…", f"nested deeper than {_DEEPEST} tables")
    elif isinstance(value, dict):
        for name, item in value.items():
            if isinstance(name, str):
                yield from _unreadable(item, (*path, name))
            else:
                yield Problem(key or "the file", "keys must be text", str(name), "put it in quotes")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _unreadable(item, (*path, str(i)))
    elif isinstance(value, int):
        if not -_LARGEST <= value < _LARGEST:
            yield Problem(key, "must be a whole number of at most 64 bits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield Problem(key, "must be a finite number", value)
    elif value is not None and not isinstance(value, str):
        kind = type(value).__name__
        yield Problem(key, f"must be text, a number, true or false, not a {kind}", str(value))


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a table to a file, whole or not at all."""
    write_atomically(path, _by_suffix(path, _WRITERS)(document).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves either the old content or the new.

    Raises:
        InputError: the folder is missing or cannot be written.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path}: cannot be written: there is no folder {path.parent}")
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def _by_suffix(path: Path, table: Mapping[str, _T]) -> _T:
    if path.suffix not in table:
        raise InputError(f"{path}: the name must end in .toml, .yaml, .yml or .json")
    return table[path.suffix]
