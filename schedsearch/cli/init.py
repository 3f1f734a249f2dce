"""`schedsearch init`: the files of a new project, or a copy of a shipped space."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from schedsearch.cli.app import app
from schedsearch.cli.output import echo, say
from schedsearch.errors import InputError


def _shipped(incomplete: str) -> list[str]:
    from schedsearch.scaffold import shipped_spaces

    return [name for name in shipped_spaces() if name.startswith(incomplete)]


Name = Annotated[
    str | None,
    typer.Argument(
        help="Name of the study and of the space file; optional with --from.",
        show_default=False,
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="SPACE",
        help="Copy a shipped space, whose task is built in.",
        show_default=False,
        autocompletion=_shipped,
    ),
]


@app.command()
def init(
    name: Name = None,
    loop: Annotated[
        bool, typer.Option("--loop", help="Write a training loop instead of a task.")
    ] = False,
    lightning: Annotated[
        bool, typer.Option("--lightning", help="Write a training by Lightning.")
    ] = False,
    transformers: Annotated[
        bool, typer.Option("--transformers", help="Write a training by transformers' Trainer.")
    ] = False,
    source: Source = None,
    shipped: Annotated[
        bool, typer.Option("--list", help="List the shipped spaces, and write nothing.")
    ] = False,
    folder: Annotated[
        Path,
        typer.Option(
            help="The folder to write into; created if missing.", show_default="the current folder"
        ),
    ] = Path(),
) -> None:
    """Write a small project, or copy a shipped space.

    The project is NAME.toml and task.py. Both run unedited: the task generates its data and trains
    in seconds. Then put your training in its place. Existing files are never overwritten.
    """
    flags = {"--loop": loop, "--lightning": lightning, "--transformers": transformers}
    chosen = [flag for flag, given in flags.items() if given]
    if shipped:
        if name is not None or source is not None or chosen:
            raise InputError(
                "--list takes nothing else: `schedsearch init --from SPACE` copies a space"
            )
        _list()
    elif source is not None:
        if chosen:
            raise InputError(f"--from copies a space whose task is built in: remove {chosen[0]}")
        _copy(source, source if name is None else name, folder)
    elif name is None:
        raise InputError("`init` needs a name: `schedsearch init my_study`")
    elif len(chosen) > 1:
        raise InputError(f"{' and '.join(chosen)} exclude each other: give one of them")
    else:
        _project(name, chosen[0].removeprefix("--") if chosen else "task", folder)


def _list() -> None:
    from schedsearch.scaffold import shipped_spaces

    spaces = shipped_spaces()
    width = max(map(len, spaces))
    for name, description in spaces.items():
        echo(f"{name:{width}}  {description}")
    say("copy one: `schedsearch init --from SPACE`")


def _copy(source: str, name: str, folder: Path) -> None:
    from schedsearch.scaffold import check_name, copy_of_space

    check_name(name)
    _write(folder, name, {f"{name}.toml": copy_of_space(source, name)})


def _project(name: str, kind_name: str, folder: Path) -> None:
    from schedsearch.scaffold import Kind, check_name, missing_modules, project_files

    check_name(name)
    kind = Kind(kind_name)
    _write(folder, name, project_files(kind, name))
    if missing := missing_modules(kind):
        say(
            f"warning: task.py needs {' and '.join(missing)}: "
            f"pip install 'schedsearch[{kind.value}]'"
        )


def _write(folder: Path, name: str, texts: dict[str, str]) -> None:
    from schedsearch.scaffold import write_new

    write_new(folder, texts)
    for file in texts:
        say(f"{folder / file}: written")
    # A task is imported from the current folder.
    go_there = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    say(f"next: {go_there}schedsearch check {name}.toml && schedsearch start {name}.toml")
