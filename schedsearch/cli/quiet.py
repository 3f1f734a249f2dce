"""Commands that all take --quiet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from schedsearch.report.quiet import hush

_F = TypeVar("_F", bound=Callable[..., Any])


def _option() -> Any:
    """Return the option; Typer makes one only as a part of a command."""
    app = typer.Typer(add_completion=False)

    @app.command()
    def holder(
        quiet: Annotated[
            bool,
            typer.Option(
                "--quiet",
                "-q",
                callback=hush,
                help="Say nothing beside the result and what goes wrong.",
            ),
        ] = False,
    ) -> None:
        pass

    option = typer.main.get_command(app).params[0]
    option.expose_value = False
    return option


class _Command(TyperCommand):
    def __init__(self, *args: Any, params: Sequence[Any] = (), **options: Any) -> None:
        own = any("-q" in parameter.opts for parameter in params)
        super().__init__(*args, params=[*params, *([] if own else [_option()])], **options)


class QuietTyper(typer.Typer):
    """A Typer whose commands take --quiet, unless they have an option of their own for that."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[_F], _F]:
        """Register a command."""
        return super().command(name, **{"cls": _Command, **options})
