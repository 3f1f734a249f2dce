"""Data on stdout, messages on stderr; what a task prints goes to stderr too.

The task runs in this process, and prints by `print`, by file descriptor, from C libraries and from
child processes. So while a command runs, file descriptor 1 is stderr, and data goes to a copy of
the original stdout.

Names, notes and exceptions may be the text of strangers, so everything is printed by `printable`.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Annotated

import typer

from schedsearch.printable import printable


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
    from schedsearch.report.progress import is_shown

    if is_shown(message):
        typer.echo(printable(message), err=True)


#: The stream for data; None while no command runs.
_data: IO[str] | None = None


def echo(text: str, *, nl: bool = True) -> None:
    """Print data on stdout."""
    typer.echo(printable(text), file=_data, nl=nl)


def ask(question: str) -> bool:
    """Ask a question on the terminal; return whether the answer is yes.

    Raises:
        typer.Abort: Ctrl-C.
        EOFError: stdin is no terminal, and has no answer.
    """
    try:
        return typer.confirm(printable(question), err=True)
    except typer.Abort:
        if sys.stdin is None or not sys.stdin.isatty():
            typer.echo(err=True)
            raise EOFError from None
        raise


@contextmanager
def stdout_for_data() -> Iterator[None]:
    """Keep stdout for `echo`: all other output of this process goes to stderr.

    In a process that only runs the command line this lasts until the process ends, since C
    libraries write what they have buffered at the very end.
    """
    global _data
    stdout, original = sys.stdout, _copy_of_stdout()
    if stdout is None:  # closed, so there is no place for data
        yield
        return
    if original is not None:
        _point_stdout_to(2)
    owns_process = stdout is sys.__stdout__
    if owns_process and isinstance(stdout, io.TextIOWrapper) and original is not None:
        # Line by line: what is buffered would be lost in a worker that is killed.
        stdout.reconfigure(line_buffering=True)
        _data = os.fdopen(original, "w", encoding=stdout.encoding, errors=stdout.errors)
    else:
        _data = stdout
        sys.stdout = sys.stderr
    try:
        yield
    finally:
        if not owns_process:
            sys.stdout, _data = stdout, None
            if original is not None:
                _point_stdout_to(original)
                os.close(original)


def columns() -> int:
    """Return the width of the terminal that shows the data; 80 if it is no terminal."""
    stream = sys.stdout if _data is None else _data
    try:
        return int(os.environ.get("COLUMNS", "")) or 80
    except ValueError:
        pass
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


def discard_data() -> None:
    """Discard further data: the program that reads stdout has ended."""
    stream = sys.stdout if _data is None else _data
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _copy_of_stdout() -> int | None:
    """Return a copy of file descriptor 1; None if it is closed."""
    try:
        return os.dup(1)
    except OSError:
        return None


def _point_stdout_to(descriptor: int) -> None:
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    try:
        os.dup2(descriptor, 1)
    except OSError:  # stderr is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
