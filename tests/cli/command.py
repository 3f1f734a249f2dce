"""Runs a command line in this process, as `schedsearch` does."""

import sys
from dataclasses import dataclass

from schedsearch.cli import main


@dataclass(frozen=True)
class Done:
    """The result of a command: its exit status and its output."""

    status: int
    out: str
    err: str


class Command:
    """Calls `main` with arguments, and captures what it prints."""

    def __init__(self, monkeypatch, capsys):
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["schedsearch", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        out, err = self._capsys.readouterr()
        return Done(status, out, err)
