"""What a shell offers after a tab, where only the storage knows."""

from __future__ import annotations

from typing import Annotated

import typer

from schedsearch.cli.app import DEFAULT_STORAGE


def study_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the studies of the storage that begin so; none where there is no storage."""
    from schedsearch.cli.opening import database
    from schedsearch.errors import SchedSearchError

    try:
        opened = database(context.params.get("storage") or DEFAULT_STORAGE)
    except SchedSearchError:
        return []
    names = (study.study_name for study in opened.optuna.get_all_studies())
    return [name for name in names if name.startswith(incomplete)]


Study = Annotated[
    str,
    typer.Argument(help="The study's name.", show_default=False, autocompletion=study_names),
]
