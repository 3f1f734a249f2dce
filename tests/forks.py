"""Processes that are forked from one which has imported what they need.

A fork of the process that tests would share its connections and its threads.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

#: All modules with functions for other processes. The server imports the modules that are set
#: before the first process starts, and later settings have no effect. So it loads frameworks too.
_IMPORTED = [
    "tests.workers",
    "tests.storage.processes",
    "tests.trajectories.processes",
    "tests.integrations.resumable",
]


def fork_context() -> ForkServerContext:
    """Return a context whose processes are such forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return context


def start_process(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """Start a process, and return it."""
    made = fork_context().Process(target=target, args=arguments)
    made.start()
    return made
