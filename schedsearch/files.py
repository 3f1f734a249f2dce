"""Reading and writing documents: TOML, YAML and JSON, told apart by the file's suffix."""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
import yaml

from schedsearch.errors import InputError

_T = TypeVar("_T")

_READERS: Mapping[str, Callable[[str], Any]] = {
    ".toml": tomllib.loads,
    ".yaml": yaml.safe_load,
    ".yml": yaml.safe_load,
    ".json": json.loads,
}
_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    ".toml": tomli_w.dumps,
    ".yaml": lambda document: yaml.safe_dump(dict(document), sort_keys=False),
    ".yml": lambda document: yaml.safe_dump(dict(document), sort_keys=False),
    ".json": lambda document: json.dumps(document, indent=2, allow_nan=False) + "\n",
}


def read_document(path: Path) -> dict[str, Any]:
    """Return the table that a file holds.

    Raises:
        InputError: the file is missing, unreadable, of another format, or not a table.
    """
    reader = _by_suffix(path, _READERS)
    try:
        document = reader(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not valid {path.suffix[1:].upper()}: {reason}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: must hold a table of keys, not {type(document).__name__}")
    return document


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a table to a file, whole or not at all."""
    write_whole(path, _by_suffix(path, _WRITERS)(document).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves either the old content or the new.

    Raises:
        InputError: the folder is missing or cannot be written.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o666 & ~_umask())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _by_suffix(path: Path, table: Mapping[str, _T]) -> _T:
    if path.suffix not in table:
        raise InputError(f"{path}: the name must end in .toml, .yaml, .yml or .json")
    return table[path.suffix]
