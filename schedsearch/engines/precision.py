"""Precision and threads of torch while an engine trains, and values in that precision."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from schedsearch.epoch_values import StepValues
from schedsearch.errors import SchedSearchError


@dataclass(frozen=True)
class PrecisionSettings:
    """Settings that change the bits of a training but not its meaning; part of the numerics.

    Attributes:
        threads: torch's intra-operation threads.
        tf32: let a GPU round the factors of matrix products to 10 bits of mantissa.
        autocast: let the task compute in bfloat16 where torch's autocast does.
    """

    threads: int = 1
    tf32: bool = False
    autocast: bool = False

    @contextmanager
    def apply(self) -> Iterator[None]:
        """Apply the settings in a block, with denormals flushed to zero; then restore the old ones.

        Adam's moments of dead units decay into denormals, which make a step half as long again.
        Flushing is restored because it also affects Python's floats in the calling thread.

        Raises:
            SchedSearchError: the code in the block called sys.exit(), which must not end a worker.
        """
        before = _TorchSettings.read()
        _TorchSettings(self.threads, True, self.tf32, self.tf32).write()
        try:
            yield
        except SystemExit as error:
            raise SchedSearchError(f"the task called sys.exit({error.code})") from None
        finally:
            before.write()

    def autocast_context(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context for the methods of the task.

        Its cache of casts is off: it would outlive the function transforms of the lanes' step.
        """
        if not self.autocast:
            return nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def start_torch_threads(threads: int) -> None:
    """Start torch's threads with denormals flushed to zero: each keeps its first setting.

    Call this before anything else in the process computes. Otherwise, whether a part of a tensor
    is flushed would depend on the thread that computes it.
    """
    before = _TorchSettings.read()
    _TorchSettings(threads, True, before.tf32_products, before.tf32_convolutions).write()
    torch.ones(2**20).mul_(1.0)
    before.write()


#: One thread, full float32 precision.
DEFAULT_PRECISION = PrecisionSettings()


@dataclass(frozen=True)
class _TorchSettings:
    """Settings of torch in the process and in the calling thread."""

    threads: int
    flush_denormal: bool
    tf32_products: bool
    tf32_convolutions: bool

    @staticmethod
    def read() -> _TorchSettings:
        return _TorchSettings(
            torch.get_num_threads(),
            sys.float_info.min / 2 == 0.0,
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
        )

    def write(self) -> None:
        torch.set_num_threads(self.threads)
        torch.set_flush_denormal(self.flush_denormal)
        torch.backends.cuda.matmul.allow_tf32 = self.tf32_products
        torch.backends.cudnn.allow_tf32 = self.tf32_convolutions


def pack_float64(values: Mapping[str, StepValues]) -> bytes:
    """Return the values as float64 bytes in the order of their names.

    >>> pack_float64({"b": 2.0, "a": 1.0}) == pack_float64({"a": 1.0, "b": 2.0})
    True
    """
    numbers, layout = flatten(values)
    return struct.pack(f"<{len(numbers)}d", *numbers) + layout


def pack_float32(values: Mapping[str, StepValues]) -> bytes:
    """Return the values as float32 bytes in the order of their names."""
    numbers, layout = flatten(values)
    if not layout:
        rounded = [round_to_float32(number) for number in numbers]
        return struct.pack(f"<{len(rounded)}f", *rounded)
    return torch.tensor(numbers, dtype=torch.float64).float().numpy().tobytes() + layout


def flatten(values: Mapping[str, StepValues]) -> tuple[list[float], bytes]:
    """Return all numbers in the order of their names, and the layout of those that have several.

    >>> flatten({"lr": (0.1, 0.2), "l1": 3.0})
    ([3.0, 0.1, 0.2], b'1:2')
    >>> flatten({"lr": 0.1, "l1": 3.0})
    ([3.0, 0.1], b'')
    """
    numbers: list[float] = []
    layout = []
    for i, name in enumerate(sorted(values)):
        value = values[name]
        if isinstance(value, tuple):
            numbers.extend(value)
            layout.append(f"{i}:{len(value)}")
        else:
            numbers.append(value)
    return numbers, ",".join(layout).encode()


def round_to_float32(value: float) -> float:
    """Return the float32 number nearest to a value; infinity if it is too large.

    >>> round_to_float32(0.1) == 0.1, round_to_float32(0.5)
    (False, 0.5)
    """
    return torch.tensor(value, dtype=torch.float32).item()
