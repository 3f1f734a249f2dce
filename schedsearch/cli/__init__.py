"""The command line. Parse, call, print; nothing else."""

from schedsearch.cli import (
    check,
    confirm,
    dashboard,
    explain,
    export,
    init,
    plot,
    preview,
    start,
    status,
    train,
    worker,
)
from schedsearch.cli.app import app, main

__all__ = [
    "app",
    "check",
    "confirm",
    "dashboard",
    "explain",
    "export",
    "init",
    "main",
    "plot",
    "preview",
    "start",
    "status",
    "train",
    "worker",
]
