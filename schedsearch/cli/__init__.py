"""The command line. Parse, call, print; nothing else."""

from schedsearch.cli import start, status, worker
from schedsearch.cli.app import app, main

__all__ = ["app", "main", "start", "status", "worker"]
