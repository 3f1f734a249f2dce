"""How an engine's arithmetic is set while it trains, and what a float64 engine tells apart."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from schedsearch.errors import SchedSearchError


@contextmanager
def arithmetic(threads: int) -> Iterator[None]:
    """Compute with this many threads and without denormals, then set both back.

    Adam's moments of dead units decay into denormals, which slow a step by half. Flushing is a
    state of the calling thread that Python's own floats see too, hence set back.

    Raises:
        SchedSearchError: the user's code within called sys.exit(), which must not end a worker.
    """
    threads_before = torch.get_num_threads()
    flushed_before = sys.float_info.min / 2 == 0.0
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        yield
    except SystemExit as error:
        raise SchedSearchError(f"the task called sys.exit({error.code})") from None
    finally:
        torch.set_flush_denormal(flushed_before)
        torch.set_num_threads(threads_before)


def packed(values: Mapping[str, float]) -> bytes:
    """Return the values as float64 bytes in the order of their names.

    >>> packed({"b": 2.0, "a": 1.0}) == packed({"a": 1.0, "b": 2.0})
    True
    """
    return struct.pack(f"<{len(values)}d", *(values[name] for name in sorted(values)))
