"""From the options --storage and --storage-file to an open database or study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schedsearch.cli.output import say
from schedsearch.errors import InputError, StudyError

if TYPE_CHECKING:
    from schedsearch.storage import Database, StudyHandle

DEFAULT_STORAGE = "sqlite:///studies.db"
_VARIABLE = "SCHEDSEARCH_STORAGE"
_URL_FROM_FILE = "schedsearch.storage_file"


def database_at(url: str, *, create: bool = False) -> Database:
    """Open the database at a URL, as `--storage` names it."""
    from schedsearch.storage.quiet import open_quietly

    return open_quietly(url, create=create)


def study_at(url: str, name: str) -> StudyHandle:
    """Open a search in the database at a URL, as `--storage` names it.

    Raises:
        StudyError: the study follows another one.
    """
    study = any_study_at(url, name)
    if (follows := study.follows) is not None:
        raise StudyError(
            f"study `{name}` {follows.purpose.attribute} study `{follows.study}`: give the name of "
            "that study"
        )
    return study


def any_study_at(url: str, name: str) -> StudyHandle:
    """Open a search, or a study that follows one, in the database at a URL."""
    from schedsearch.storage import open_study

    return open_study(database_at(url), name)


# --- the options ---------------------------------------------------------------------------------


def _remember_url(context: typer.Context, file: Path | None) -> None:
    if file is not None:
        context.meta[_URL_FROM_FILE] = _read_url(file)


def _read_url(file: Path) -> str:
    """Return the database URL in a file that contains nothing else."""
    try:
        lines = file.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(f"--storage-file {file}: cannot be read: {reason}") from None
    if len(lines) != 1:
        raise InputError(f"--storage-file {file}: must contain one line, the database URL")
    if file.stat().st_mode & 0o077:
        say(f"warning: other users can read {file}, which may hold a password: chmod 600 {file}")
    return lines[0]


def _choose_url(context: typer.Context, url: str) -> str:
    source = context.get_parameter_source("storage")
    is_flag = source is not None and source.name == "COMMANDLINE"
    if _URL_FROM_FILE in context.meta:
        if is_flag:
            raise InputError("--storage and --storage-file both name a database: give only one")
        return str(context.meta[_URL_FROM_FILE])
    if is_flag:
        warn_of_password(url)
    return url


def warn_of_password(url: str, option: str = "--storage", variable: str = _VARIABLE) -> None:
    """Warn if a URL that is an argument of the command contains a password."""
    from schedsearch.storage import has_password

    if has_password(url):
        file = ", or put the URL into a file for --storage-file" if option == "--storage" else ""
        say(
            f"warning: every user of this machine can read the password in {option}: "
            f"set {variable} to the URL{file}"
        )


def complete_study_name(context: typer.Context, incomplete: str) -> list[str]:
    """Return the study names that complete a prefix; an empty list if there is no storage.

    Names that a terminal would obey are left out, and so are names that are taken for options.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from schedsearch.errors import SchedSearchError
    from schedsearch.storage import study_names

    try:
        names = study_names(database_at(context.params.get("storage") or DEFAULT_STORAGE))
    except (SchedSearchError, SQLAlchemyError):
        return []
    usable = (name for name in names if name.isprintable() and not name.startswith("-"))
    return [name for name in usable if name.startswith(incomplete)]


#: The database URL. Every command with a parameter of this type takes --storage-file as well.
Storage = Annotated[
    str,
    typer.Option(
        envvar=_VARIABLE,
        show_default=DEFAULT_STORAGE,
        callback=_choose_url,
        help="Database URL. If it contains a password, use the variable or --storage-file.",
    ),
]
StorageFile = Annotated[
    Path | None,
    typer.Option(
        callback=_remember_url,
        is_eager=True,
        show_default=False,
        help="A file that contains the database URL, instead of --storage.",
    ),
]
Study = Annotated[
    str,
    typer.Argument(
        help="Name of the study.", show_default=False, autocompletion=complete_study_name
    ),
]
