"""The command line's frame: how commands are found, and how what goes wrong is said."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from schedsearch.cli.quiet import QuietTyper
from schedsearch.errors import FileError, SchedSearchError
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

Storage = Annotated[
    str,
    typer.Option(
        envvar="SCHEDSEARCH_STORAGE",
        show_default=DEFAULT_STORAGE,
        help="Database URL. Give one that holds a password by the variable, not by the flag.",
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
