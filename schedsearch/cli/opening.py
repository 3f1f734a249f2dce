"""From the options of a command to an open database or study."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from schedsearch.cli.app import say

if TYPE_CHECKING:
    from schedsearch.storage import Database, StudyHandle


def database(url: str, *, create: bool = False) -> Database:
    """Open the database that a command's `--storage` names."""
    import optuna

    from schedsearch.storage import open_database

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # The pool prints a traceback for a connection that was lost; who used it waits, and says so.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    opened = open_database(url, create=create)
    if not opened.known_schema:
        say("warning: the tables are of an Optuna that is not known here: searching is slower")
    return opened


def study(url: str, name: str) -> StudyHandle:
    """Open a study in the database that a command's `--storage` names."""
    from schedsearch.storage import open_study

    return open_study(database(url), name)
