"""When Python looks for garbage: not while modules are loaded, and not among them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage in the block: modules such as torch then load in two thirds of the time.

    Each of the million objects that they create stays.
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
    ask for one in each training, and Python does at its end.
    """
    gc.freeze()
