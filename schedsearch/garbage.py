"""When Python collects garbage: not while modules are loaded, and not among their objects."""

from __future__ import annotations

import gc
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage in the block: modules such as torch then load in two thirds of the time.

    Nearly all of the million objects that they create stay, so there is nothing to find.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def keep_all() -> None:
    """Exempt everything that exists now from garbage collection, for the rest of this process.

    A full collection visits all loaded modules, which takes half a second; some training libraries
    ask for one in each training.
    """
    gc.freeze()


def end_without_collection() -> None:
    """Leave nothing for the collections with which Python ends, which take over a second.

    The garbage collector would close a file that only a reference cycle holds, and so write its
    buffer; therefore the buffers of all files are flushed here.
    """
    gc.unfreeze()
    for found in gc.get_objects():
        # Not isinstance, which asks proxies for what they stand for.
        if issubclass(type(found), io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom):
            with suppress(OSError, ValueError):  # it is closed, or cannot be written any more
                found.flush()
    gc.freeze()
