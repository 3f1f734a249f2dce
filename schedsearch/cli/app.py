"""The command line's frame: how commands are found, and how what goes wrong is said."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from schedsearch.cli.quiet import QuietTyper
from schedsearch.errors import FileError, InputError, SchedSearchError
from schedsearch.report.quiet import is_quiet

app = QuietTyper(
    name="schedsearch",
    help="Search for hyperparameter schedules of PyTorch trainings, and learn whether they beat "
    "the best constant.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DEFAULT_STORAGE = "sqlite:///studies.db"


def _read_storage_file(context: typer.Context, file: Path | None) -> Path | None:
    if file is not None:
        context.meta[_FROM_FILE] = _url_in(file)
    return file


def _url_in(file: Path) -> str:
    """Return the database URL that a file holds, and nothing else."""
    try:
        lines = file.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text"
        raise InputError(f"--storage-file {file}: cannot be read: {reason}") from None
    if len(lines) != 1:
        raise InputError(f"--storage-file {file}: must hold the database URL alone, in one line")
    if file.stat().st_mode & 0o077:
        say(f"warning: others may read {file}, which may hold a password: chmod 600 {file}")
    return lines[0]


def _choose_storage(context: typer.Context, url: str) -> str:
    source = context.get_parameter_source("storage")
    flag = source is not None and source.name == "COMMANDLINE"
    if _FROM_FILE in context.meta:
        if flag:
            raise InputError("--storage and --storage-file both name a database: give one")
        return str(context.meta[_FROM_FILE])
    if flag:
        _warn_of_password(url)
    return url


def _warn_of_password(url: str) -> None:
    from schedsearch.storage import has_password

    if has_password(url):
        say(
            "warning: the password in --storage can be read by every user of this machine: "
            "give the URL by the variable SCHEDSEARCH_STORAGE, or in a file by --storage-file"
        )


_FROM_FILE = "schedsearch.storage_file"

Storage = Annotated[
    str,
    typer.Option(
        envvar="SCHEDSEARCH_STORAGE",
        show_default=DEFAULT_STORAGE,
        callback=_choose_storage,
        help="Database URL. Give one that holds a password by the variable, or in a file.",
    ),
]
StorageFile = Annotated[
    Path | None,
    typer.Option(
        callback=_read_storage_file,
        is_eager=True,
        show_default=False,
        help="A file that holds the database URL, in place of --storage.",
    ),
]
SpaceFile = Annotated[
    Path, typer.Argument(help="A space or a config: TOML, YAML or JSON.", show_default=False)
]
NoReuse = Annotated[
    bool,
    typer.Option("--no-reuse", help="Train every epoch anew, and keep nothing of it for others."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"schedsearch {version('schedsearch')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def say(message: str) -> None:
    """Print a line for the person, on stderr: stdout is for data.

    To one who asked for quiet only errors and warnings are said.
    """
    if not is_quiet() or message.startswith(("error:", "warning:")):
        typer.echo(message, err=True)


def main() -> None:
    """Run the command line; exit 0 done, 1 the work failed, 2 the input was wrong."""
    try:
        app()
    except FileError as error:
        for problem in error.problems:
            say(f"error: {error.file}: {problem}")
        sys.exit(error.exit_code)
    except SchedSearchError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe went away: not our error, and nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        from schedsearch.storage import database_failure

        failure = database_failure(error) or _unexpected(error)
        say(f"error: {failure}")
        sys.exit(failure.exit_code)


def _unexpected(error: Exception) -> SchedSearchError:
    """Say a mistake of ours in one line; whoever looks for it asks for the traceback."""
    if os.environ.get("SCHEDSEARCH_DEBUG"):
        raise error
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return SchedSearchError(f"unexpected: {reason} (SCHEDSEARCH_DEBUG=1 shows where)")
