"""Database URLs: what they name, which driver serves them, and what of them may be shown."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from schedsearch.errors import StorageError
from schedsearch.storage.retrier import reason

#: Which driver serves a URL that names none, and is not SQLAlchemy's own choice.
_DRIVERS = {"postgres": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
#: What SQLAlchemy raises at a URL that it cannot read; ValueError where the port is no number.
_UNREADABLE = (ArgumentError, ValueError)


def shown(url: str) -> str:
    """Return a database URL with its password hidden, for messages.

    >>> shown("postgresql://ann:secret@db/studies")
    'postgresql://ann:***@db/studies'
    >>> shown("postgresql://ann@db/studies?password=secret")
    'postgresql://ann@db/studies?password=hidden'

    A password may hold what should have been escaped: all up to the last `@` is hidden.

    >>> shown("postgresql://ann:se@cret@db/studies")
    'postgresql://ann:***@db/studies'
    """
    try:
        parsed = make_url(re.sub(r"://([^:/@]*):.*@", r"://\1:***@", url))
    except _UNREADABLE:
        return "the storage URL"
    hidden = dict.fromkeys(_secrets(parsed), "hidden")
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True)


def _secrets(url: URL) -> list[str]:
    """Return the options of a URL that hold a password."""
    return [option for option in url.query if "passw" in option.lower()]


def has_password(url: str) -> bool:
    """Tell whether a database URL holds a password."""
    try:
        parsed = make_url(url)
    except _UNREADABLE:
        return False
    return parsed.password is not None or bool(_secrets(parsed))


def password_of(url: URL) -> str | None:
    """Return the password of a URL as it is typed, if it has one."""
    return None if url.password is None else str(url.password)


def parse_url(url: str) -> URL:
    """Return a database URL with a driver that is installed.

    Raises:
        StorageError: it cannot be read, or no driver serves it.
    """
    try:
        parsed = make_url(url)
        parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
        if parsed.password is not None and "@" in (parsed.host or ""):
            raise StorageError(
                f"{shown(url)}: the password holds an @ that must be written as %40: a URL gives "
                "@ : / ? # % another meaning"
            )
        parsed.get_dialect().import_dbapi()
    except NoSuchModuleError:
        raise StorageError(
            f"{shown(url)}: there is no database kind `{make_url(url).drivername}`: "
            "use sqlite, postgresql or mysql"
        ) from None
    except _UNREADABLE:
        raise StorageError(
            "the storage URL cannot be read: write it like sqlite:///studies.db or "
            "postgresql://user@host/database"
        ) from None
    except ModuleNotFoundError as error:
        raise StorageError(
            f"{shown(url)}: needs the driver `{error.name}`: {_install(error.name)}"
        ) from None
    except ImportError as error:  # psycopg without its C library, for one
        raise StorageError(f"{shown(url)}: its driver cannot be loaded: {reason(error)}") from None
    return parsed


def _install(module: str | None) -> str:
    """Return what to type to get a driver: by the extra that brings it, if one does."""
    extras = {"psycopg": "schedsearch[postgresql]", "pymysql": "schedsearch[mysql]"}
    return f"pip install '{extras.get(str(module), module)}'"


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite URL; None for every other kind of database."""
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database or url.database == ":memory:":
        raise StorageError("a SQLite database in memory cannot be shared: name a file")
    return Path(url.database)
