"""The command line's frame: how commands are found, and how what goes wrong is said."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from schedsearch.errors import SchedSearchError

app = typer.Typer(
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
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def say(message: str) -> None:
    """Print a line for the person, on stderr: stdout is for data."""
    typer.echo(message, err=True)


def main() -> None:
    """Run the command line; exit 0 done, 1 the work failed, 2 the input was wrong."""
    try:
        app()
    except SchedSearchError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe went away: not our error, and nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        from schedsearch.storage import database_failure

        failure = database_failure(error)
        if failure is None:
            raise
        say(f"error: {failure}")
        sys.exit(failure.exit_code)
