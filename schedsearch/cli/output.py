"""Messages on stderr, which --quiet silences; data goes to stdout."""

from __future__ import annotations

from typing import Annotated

import typer


def _set_quiet(quiet: bool) -> None:
    from schedsearch.report.progress import set_quiet

    set_quiet(quiet)


Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=_set_quiet,
        help="Print only the result, warnings and errors.",
    ),
]


def say(message: str) -> None:
    """Print a line on stderr; after --quiet only if it is an error or a warning."""
    from schedsearch.report.progress import is_quiet

    if not is_quiet() or message.startswith(("error:", "warning:")):
        typer.echo(message, err=True)
