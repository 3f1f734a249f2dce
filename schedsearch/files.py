"""Reading and writing of TOML, YAML and JSON files; the suffix selects the format.

The three formats hold the same data: values that only some of them support (dates, aliases, NaN,
duplicate keys) are refused.
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

#: The maximum nesting of tables: more than any schedule needs, and safe for recursion.
_MAX_DEPTH = 50
#: The range of whole numbers that TOML guarantees: 64 bits.
_INTEGER_LIMIT = 2**63
#: The maximum length of a file in characters; long configs have a value for each epoch.
_MAX_LENGTH = 2**20
_KEY_PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+"""
#: Matches keys with too many parts: tomllib needs hours for a key with 100,000 parts.
_KEY_TOO_DEEP = re.compile(rf"(?<![\w-])(?:{_KEY_PART}\.[ \t]*+){{{_MAX_DEPTH}}}")


class _YamlLoader(yaml.SafeLoader):
    """YAML without aliases, which can expand exponentially, and without duplicate keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not supported: repeat the value")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        _check_unique(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        return super().construct_mapping(node, deep)


class _YamlDumper(yaml.SafeDumper):
    """YAML that repeats equal values instead of writing aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _json_table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_unique(key for key, _ in pairs)
    return dict(pairs)


def _check_unique(keys: Iterable[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"duplicate key `{key}` in one table: remove one of them")
        seen.add(key)


def _read_yaml(text: str) -> Any:
    return yaml.load(text, _YamlLoader)


def _write_yaml(document: Mapping[str, Any]) -> str:
    return yaml.dump(dict(document), Dumper=_YamlDumper, sort_keys=False)


def _read_toml(text: str) -> Any:
    if _KEY_TOO_DEEP.search(text):
        raise ValueError(f"nested deeper than {_MAX_DEPTH} tables")
    return tomllib.loads(text)


_READERS: Mapping[str, Callable[[str], Any]] = {
    ".toml": _read_toml,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".json": lambda text: json.loads(text, object_pairs_hook=_json_table),
}
_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    ".toml": tomli_w.dumps,
    ".yaml": _write_yaml,
    ".yml": _write_yaml,
    ".json": lambda document: json.dumps(document, indent=2, allow_nan=False) + "\n",
}


def read_document(path: Path) -> dict[str, Any]:
    """Return the content of a file as a table.

    Values are tables, lists, text, finite numbers, true and false.

    Raises:
        InputError: the file is missing or unreadable, has another format, or holds no table.
        FileError: the file holds values of another type; the error lists all of them.
    """
    reader = _for_suffix(path, _READERS)
    try:
        document = reader(_read_text(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None
    except RecursionError:
        raise InputError(f"{path}: nested deeper than {_MAX_DEPTH} tables") from None
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not valid {path.suffix[1:].upper()}: {reason}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: must be a table of keys, not {type(document).__name__}")
    if problems := list(_invalid_values(document, ())):
        raise FileError(str(path), problems)
    return document


def _read_text(path: Path) -> str:
    # A pipe or a device may be endless.
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    with path.open(encoding="utf-8-sig") as file:
        text = file.read(_MAX_LENGTH + 1)
    if len(text) > _MAX_LENGTH:
        raise InputError(
            f"{path}: is longer than {_MAX_LENGTH:,} characters, the limit for a space or a config"
        )
    return text


def _invalid_values(value: Any, path: tuple[str, ...]) -> Iterator[Problem]:
    """Yield a problem for each value that is not a table, a list, text, a number or a boolean."""
    key = ".".join(path)
    if len(path) > _MAX_DEPTH:
        yield Problem(".".join(path[:3]) + ".…", f"nested deeper than {_MAX_DEPTH} tables")
    elif isinstance(value, dict):
        for name, item in value.items():
            if isinstance(name, str):
                yield from _invalid_values(item, (*path, name))
            else:
                yield Problem(key or "the file", "keys must be text", str(name), "put it in quotes")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _invalid_values(item, (*path, str(i)))
    elif isinstance(value, int):
        if not -_INTEGER_LIMIT <= value < _INTEGER_LIMIT:
            yield Problem(key, "must be a whole number of at most 64 bits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield Problem(key, "must be a finite number", value)
    elif value is not None and not isinstance(value, str):
        kind = type(value).__name__
        yield Problem(key, f"must be text, a number, true or false, not a {kind}", str(value))


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a table to a file atomically."""
    write_atomically(path, _for_suffix(path, _WRITERS)(document).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically: after a crash it has either the old content or the new.

    Raises:
        InputError: the folder is missing or not writable.
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


def _for_suffix(path: Path, table: Mapping[str, _T]) -> _T:
    if path.suffix not in table:
        raise InputError(f"{path}: the name must end in .toml, .yaml, .yml or .json")
    return table[path.suffix]
