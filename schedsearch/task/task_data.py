"""The data of a task as bytes, for fingerprints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from schedsearch.task.loading import call_user_code
from schedsearch.task.protocol import Examples, Task

#: torch's generators have this seed in a new process, so a task that does not seed them gets the
#: same data as the first that a process draws.
_TORCH_DEFAULT_SEED = 67280421310721


def data_bytes(task: Task) -> Iterator[bytes]:
    """Yield the names, types, shapes and bytes of all tensors of `data(0)`, in a fixed order.

    Raises:
        TaskError: `data(0)` raises an exception.
    """
    import torch

    with fixed_torch_seed():
        splits = call_user_code(f"{type(task).__name__}.data(0)", lambda: task.data(0))
    for part in ("train", "validation", "test"):
        split: Examples = getattr(splits, part)
        for name, tensor in sorted(split.items()):
            yield f"{part}.{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            yield flat.view(torch.uint8).numpy().tobytes()


@contextmanager
def fixed_torch_seed() -> Iterator[None]:
    """Seed torch's global generators, which user code may use; restore their state afterwards."""
    import torch

    # Reading the state of a GPU would initialize CUDA, and a process that did cannot fork.
    cuda: Any = torch.cuda  # Any: torch gives `is_initialized` no types
    devices = range(cuda.device_count()) if cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        torch.manual_seed(_TORCH_DEFAULT_SEED)
        yield
