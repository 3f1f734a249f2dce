"""Opening a database without the lines that Optuna and SQLAlchemy print."""

from __future__ import annotations

import logging

import optuna

from schedsearch.storage.database import Database, open_database


def open_quietly(url: str, *, create: bool = False) -> Database:
    """Open the database at a URL; Optuna and the pool of connections print errors only."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # The pool prints a traceback for each lost connection; the retry reports these in one line.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    return open_database(url, create=create)
