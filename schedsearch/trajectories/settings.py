"""Where a database's checkpoints are stored, and how many bytes they may take."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pydantic import ByteSize, TypeAdapter, ValidationError
from sqlalchemy.engine import make_url

from schedsearch.errors import InputError
from schedsearch.storage.urls import sqlite_file

#: Bytes of all checkpoints of a database, unless SCHEDSEARCH_CHECKPOINT_BUDGET is set.
BUDGET = 2 * 2**30
_FOLDER_VARIABLE = "SCHEDSEARCH_CHECKPOINTS"
_BUDGET_VARIABLE = "SCHEDSEARCH_CHECKPOINT_BUDGET"


def checkpoint_folder(url: str) -> Path:
    """Return the folder of a database's checkpoints.

    It is beside an SQLite file, in the current folder for a server's database, or in the folder
    that SCHEDSEARCH_CHECKPOINTS names. Each database has a separate folder, since files that no
    row of the database names are removed from it.

    >>> checkpoint_folder("sqlite:///runs/studies.db").as_posix()
    'runs/studies.db.checkpoints'
    >>> checkpoint_folder("postgresql://ann@db/studies").as_posix()
    'studies.checkpoints'
    """
    parsed, parent = make_url(url), os.environ.get(_FOLDER_VARIABLE)
    file = sqlite_file(parsed)
    if file is None:
        return Path(parent or "", f"{parsed.database or 'schedsearch'}.checkpoints")
    if not parent:
        return file.with_name(f"{file.name}.checkpoints")
    digest = hashlib.sha256(bytes(file.resolve())).hexdigest()[:8]
    return Path(parent, f"{file.name}.{digest}.checkpoints")


def picture_folder(url: str) -> Path:
    """Return the folder of the pictures of a database's trials: beside its checkpoints.

    >>> picture_folder("sqlite:///runs/studies.db").as_posix()
    'runs/studies.db.pictures'
    """
    return checkpoint_folder(url).with_suffix(".pictures")


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
