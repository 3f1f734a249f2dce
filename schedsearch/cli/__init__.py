"""The command line. Parse, call, print; nothing else."""

from schedsearch.cli import check, preview  # noqa: F401  (importing a command registers it)
from schedsearch.cli.app import app, main

__all__ = ["app", "main"]
