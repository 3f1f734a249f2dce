"""Processes that are forked from one which has imported what they need.

A fork of the process that tests would share its connections and its threads.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

#: Modules with functions for other processes. There is one server for all tests, which imports what
#: it is told first.
_IMPORTED = [
    "tests.workers",
    "tests.storage.processes",
    "tests.trajectories.processes",
    "tests.integrations.resumable",
]


def forking() -> ForkServerContext:
    """Return the context whose processes are such forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return context


def process(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """Begin a process."""
    made = forking().Process(target=target, args=arguments)
    made.start()
    return made
