"""The command line. Parse, call, print; nothing else."""

from schedsearch.cli import (
    confirm,
    dashboard,
    export,
    plot,
    start,
    status,
    train,
    worker,
)
from schedsearch.cli.app import app, main

__all__ = [
    "app",
    "confirm",
    "dashboard",
    "export",
    "main",
    "plot",
    "start",
    "status",
    "train",
    "worker",
]
