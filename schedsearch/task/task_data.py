"""The data of a task as bytes, for fingerprints."""

from __future__ import annotations

from collections.abc import Iterator

from schedsearch.task.loading import call_user_code
from schedsearch.task.protocol import Examples, Task


def data_bytes(task: Task) -> Iterator[bytes]:
    """Yield the names, types, shapes and bytes of all tensors of `data(0)`, in a fixed order.

    Raises:
        TaskError: `data(0)` raises an exception.
    """
    import torch

    splits = call_user_code(f"{type(task).__name__}.data(0)", lambda: task.data(0))
    for part in ("train", "validation", "test"):
        split: Examples = getattr(splits, part)
        for name, tensor in sorted(split.items()):
            yield f"{part}.{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            yield flat.view(torch.uint8).numpy().tobytes()
