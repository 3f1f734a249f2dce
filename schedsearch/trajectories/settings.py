"""Where a database's checkpoints are stored, and how many bytes they may take."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import quote

from pydantic import ByteSize, TypeAdapter, ValidationError
from sqlalchemy.engine import make_url

from schedsearch.errors import InputError
from schedsearch.storage.urls import sqlite_file

#: Bytes of all checkpoints of a database, unless SCHEDSEARCH_CHECKPOINT_BUDGET is set.
BUDGET = 2 * 2**30
_FOLDER_VARIABLE = "SCHEDSEARCH_CHECKPOINTS"
_BUDGET_VARIABLE = "SCHEDSEARCH_CHECKPOINT_BUDGET"


def checkpoint_folder(url: str, current: Path | None = None) -> Path:
    """Return the folder of a database's checkpoints.

    It is beside an SQLite file, in the current folder for a server's database, or in the folder
    that SCHEDSEARCH_CHECKPOINTS names. If it belongs to another database, `open_checkpoint_folder`
    returns a separate one.

    Args:
        url: the URL of the database.
        current: the folder that relative paths start from; by default the current one.

    >>> checkpoint_folder("sqlite:///runs/studies.db").as_posix()
    'runs/studies.db.checkpoints'
    >>> checkpoint_folder("postgresql://ann@db/studies").as_posix()
    'studies.checkpoints'
    """
    parsed, given = make_url(url), os.environ.get(_FOLDER_VARIABLE)
    file = sqlite_file(parsed)
    start = current or Path()
    if file is None:
        # A name such as ../studies must not lead out of the folder.
        name = quote(parsed.database or "schedsearch", safe=" ")
        return start / (given or "") / f"{name}.checkpoints"
    if not given:
        return (start / file).with_name(f"{file.name}.checkpoints")
    digest = hashlib.sha256(bytes((start / file).resolve())).hexdigest()[:8]
    return start / given / f"{file.name}.{digest}.checkpoints"


def picture_folder(url: str, current: Path | None = None) -> Path:
    """Return the folder of the pictures of a database's trials: beside its checkpoints.

    >>> picture_folder("sqlite:///runs/studies.db").as_posix()
    'runs/studies.db.pictures'
    """
    return checkpoint_folder(url, current).with_suffix(".pictures")


def compiled_folder(url: str, current: Path | None = None) -> Path:
    """Return the folder of the compiled steps of a database's studies: beside its checkpoints.

    >>> compiled_folder("sqlite:///runs/studies.db").as_posix()
    'runs/studies.db.compiled'
    """
    return checkpoint_folder(url, current).with_suffix(".compiled")


def checkpoint_budget() -> int:
    """Return the bytes of all checkpoints: SCHEDSEARCH_CHECKPOINT_BUDGET, or 2 GiB.

    Raises:
        InputError: the variable is not a number of bytes.
    """
    given = os.environ.get(_BUDGET_VARIABLE)
    if given is None:
        return BUDGET
    try:
        return int(TypeAdapter(ByteSize).validate_python(given))
    except ValidationError:
        raise InputError(
            f"{_BUDGET_VARIABLE}: {given!r} is not a size: "
            "write a number of bytes, or a size such as 500MB or 20GiB"
        ) from None
