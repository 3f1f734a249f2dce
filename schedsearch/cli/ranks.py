"""The commands of the ranks of a trial that are not the first: they only follow it."""

from __future__ import annotations

import os

import typer


def follow_other_rank() -> None:
    """Follow rank 0 until it ends, and end this command, if this process is another rank.

    Raises:
        typer.Exit: at the end of rank 0.
    """
    from schedsearch.ranks.joining import Rank

    rank = Rank.of(os.environ)
    if rank is None or rank.number == 0:
        return
    from schedsearch.ranks.rank_group import follow_rank_0

    raise typer.Exit(follow_rank_0(rank))
