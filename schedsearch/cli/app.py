"""The Typer application: options that commands share, and how errors are printed."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from schedsearch.cli.output import Quiet, discard_data, echo, say, stdout_for_data
from schedsearch.cli.storage import StorageFile
from schedsearch.errors import FileError, SchedSearchError
from schedsearch.garbage import end_without_collection

_F = TypeVar("_F", bound=Callable[..., Any])

SpaceFile = Annotated[
    Path, typer.Argument(help="A space or a config: TOML, YAML or JSON.", show_default=False)
]
NoReuse = Annotated[
    bool,
    typer.Option("--no-reuse", help="Train every epoch, and store no epochs for later trials."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def _shared_options() -> Sequence[Any]:
    """Return --storage-file and --quiet; Typer builds options only for a command."""
    app = typer.Typer(add_completion=False)

    @app.command()
    def holder(storage_file: StorageFile = None, quiet: Quiet = False) -> None:
        pass

    options = typer.main.get_command(app).params[:2]
    for option in options:
        option.expose_value = False
    return options


class _Command(TyperCommand):
    """A command that takes --quiet, and --storage-file if it takes --storage."""

    def __init__(self, *args: Any, params: Sequence[Any] = (), **options: Any) -> None:
        super().__init__(*args, params=list(_with_shared_options(params)), **options)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options; a wrong value is our error, in the style of all others."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # The base class of these errors is Click's or Typer's, by the version of Typer.
            from schedsearch.cli.usage_errors import as_input_error, as_usage_error

            parameter, found = getattr(error, "param", None), None
            if parameter is not None:
                value = self.make_parser(ctx).parse_args(given)[0].get(parameter.name)
                found = as_input_error(error, value)
            raise found or as_usage_error(error, ctx, given) or error from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command with stdout for its data alone."""
        try:
            with stdout_for_data():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            say(f"error: interrupted: `schedsearch {ctx.info_name}` has not finished")
            raise typer.Exit(130) from None


def _with_shared_options(params: Sequence[Any]) -> Iterator[Any]:
    storage_file, quiet = _shared_options()
    for param in params:
        yield param
        if param.name == "storage":
            yield storage_file
    if not any("-q" in param.opts for param in params):
        yield quiet


class _Group(TyperGroup):
    """The commands; messages about wrong arguments are in the style of all other errors."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with _usage_errors_as_input_errors(ctx, args):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        with _usage_errors_as_input_errors(ctx, args):
            return super().resolve_command(ctx, args)


@contextmanager
def _usage_errors_as_input_errors(ctx: Any, args: Sequence[str]) -> Iterator[None]:
    given = list(args)
    try:
        yield
    except Exception as error:
        from schedsearch.cli.usage_errors import as_usage_error

        raise as_usage_error(error, ctx, given) or error from None


class _App(typer.Typer):
    def command(self, name: str | None = None, **options: Any) -> Callable[[_F], _F]:
        """Register a command with the shared options."""
        return super().command(name, **{"cls": _Command, **options})


app = _App(
    name="schedsearch",
    cls=_Group,
    help="Search for hyperparameter schedules of PyTorch trainings, and test whether they beat "
    "the best constant.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        echo(f"schedsearch {version('schedsearch')}")
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


def main() -> None:
    """Run the command line; exit with 0 for success, 1 for failed work, 2 for wrong input."""
    atexit.register(end_without_collection)
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
        # The program that reads stdout has ended; Python would report it once more at the end.
        discard_data()
        sys.exit(1)
    except Exception as error:
        from schedsearch.storage import translate_database_error

        failure = translate_database_error(error) or _unexpected(error)
        say(f"error: {failure}")
        sys.exit(failure.exit_code)


def _unexpected(error: Exception) -> SchedSearchError:
    """Return a bug of schedsearch as one line; SCHEDSEARCH_DEBUG=1 raises it with its traceback."""
    if os.environ.get("SCHEDSEARCH_DEBUG"):
        raise error
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return SchedSearchError(f"unexpected: {reason} (SCHEDSEARCH_DEBUG=1 prints the traceback)")
