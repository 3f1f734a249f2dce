"""Database URLs: parsing, drivers, and hidden passwords."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from schedsearch.errors import StorageError
from schedsearch.storage.retrier import driver_message

#: The driver of a URL that names none, where SQLAlchemy would choose another one.
_DRIVERS = {"postgres": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
#: The options that SQLAlchemy passes to the sqlite3 module.
_SQLITE_OPTIONS = (
    "timeout",
    "isolation_level",
    "detect_types",
    "check_same_thread",
    "cached_statements",
)
#: SQLAlchemy's errors for a malformed URL; ValueError if the port is not a number.
_MALFORMED = (ArgumentError, ValueError)


def hide_password(url: str) -> str:
    """Return a database URL without its password, for messages.

    >>> hide_password("postgresql://ann:secret@db/studies")
    'postgresql://ann:***@db/studies'
    >>> hide_password("postgresql://ann@db/studies?password=secret")
    'postgresql://ann@db/studies?password=hidden'

    In a password with an unescaped `@`, everything up to the last `@` is hidden.

    >>> hide_password("postgresql://ann:se@cret@db/studies")
    'postgresql://ann:***@db/studies'
    """
    try:
        parsed = make_url(re.sub(r"://([^:/@]*):.*@", r"://\1:***@", url))
    except _MALFORMED:
        return "the storage URL"
    hidden = dict.fromkeys(_secrets(parsed), "hidden")
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True)


def _secrets(url: URL) -> list[str]:
    """Return the query parameters of a URL that contain a password."""
    return [option for option in url.query if "passw" in option.lower()]


def has_password(url: str) -> bool:
    """Return whether a database URL contains a password."""
    try:
        parsed = make_url(url)
    except _MALFORMED:
        return False
    return parsed.password is not None or bool(_secrets(parsed))


def password_of(url: URL) -> str | None:
    """Return the password of a URL, unescaped; None if it has none."""
    return None if url.password is None else str(url.password)


def parse_url(url: str) -> URL:
    """Return a parsed database URL with an installed driver.

    Raises:
        StorageError: the URL is malformed, or its driver is missing.
    """
    try:
        parsed = make_url(url)
        parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
        if parsed.password is not None and "@" in (parsed.host or ""):
            raise StorageError(
                f"{hide_password(url)}: write the @ in the password as %40: the characters "
                "@ : / ? # % have a special meaning in a URL"
            )
        if parsed.get_backend_name() == "sqlite":
            _check_sqlite_options(url)
        parsed.get_dialect().import_dbapi()
    except NoSuchModuleError:
        raise StorageError(
            f"{hide_password(url)}: unknown database `{make_url(url).drivername}`: "
            "use sqlite, postgresql or mysql"
        ) from None
    except _MALFORMED:
        raise StorageError(
            "the storage URL is malformed: write it like sqlite:///studies.db or "
            "postgresql://user@host/database"
        ) from None
    except ModuleNotFoundError as error:
        raise StorageError(
            f"{hide_password(url)}: the driver `{error.name}` is missing: "
            f"{_install_command(error.name)}"
        ) from None
    except ImportError as error:  # psycopg without its C library, for one
        raise StorageError(
            f"{hide_password(url)}: the driver cannot be loaded: {driver_message(error)}"
        ) from None
    return parsed


def _check_sqlite_options(url: str) -> None:
    """Refuse a `?` that belongs to a file name: SQLAlchemy would use the name before it."""
    _, mark, options = url.partition("?")
    pairs = [pair.partition("=") for pair in options.split("&")] if mark else []
    if wrong := [name for name, _, value in pairs if not value or name not in _SQLITE_OPTIONS]:
        raise StorageError(
            f"{hide_password(url)}: `{wrong[0]}` after the ? is not an option of SQLite such as "
            "timeout=10: rename the file if its name contains a ?"
        )


def _install_command(module: str | None) -> str:
    """Return the command that installs a driver: with an extra of schedsearch, if there is one."""
    extras = {"psycopg": "schedsearch[postgresql]", "pymysql": "schedsearch[mysql]"}
    return f"pip install '{extras.get(str(module), module)}'"


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite URL; None for other databases.

    Raises:
        StorageError: the database would be in memory, or the URL would name another file.
    """
    if url.get_backend_name() != "sqlite":
        return None
    if not url.database or url.database == ":memory:":
        raise StorageError(
            "processes cannot share a SQLite database in memory: give the path of a file"
        )
    if url.database.startswith("file:"):
        raise StorageError("SQLite's own URIs are not supported: write sqlite:///studies.db")
    if "\0" in url.database:
        raise StorageError("the path of a SQLite database contains a zero byte")
    return Path(url.database)
