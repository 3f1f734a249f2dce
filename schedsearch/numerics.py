"""What changes a training's bits without changing its meaning."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schedsearch.errors import InputError


def current_numerics(
    engine: str,
    *,
    device: str = "cpu",
    threads: int = 1,
    lanes: int = 1,
    compiled: bool = False,
    tf32: bool = False,
    autocast: bool = False,
) -> dict[str, Any]:
    """Return the numerics of a training on this machine: what its exact numbers depend on.

    Args:
        engine: "sequential", "lanes" or "loop".
        device: where, as torch names it.
        threads: torch's intra-operation threads.
        lanes: how many runs share a step, idle ones included.
        compiled: whether the step of the lanes is compiled.
        tf32: whether a GPU may round the factors of matrix products to 10 bits of fraction.
        autocast: whether the models compute in bfloat16.

    Raises:
        InputError: torch has no such device here.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        # A build of torch without CUDA says so by an AssertionError.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"the device `{device}` cannot be used here: {reason}") from None
    return {
        "engine": engine,
        "lanes": lanes,
        "threads": threads,
        "device": device,
        "processor": _processor(device),
        "compiled": compiled,
        "tf32": tf32,
        "autocast": autocast,
        "dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "torch": torch.__version__,
    }


#: What a person chooses; the rest follows from the machine.
_CHOSEN = ("engine", "device", "threads", "lanes", "compiled", "tf32", "autocast")


def current_numerics_like(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numerics of a training on this machine that is set up as a recorded one.

    Raises:
        InputError: torch has no such device here.
    """
    return current_numerics(**{key: recorded[key] for key in _CHOSEN if key in recorded})


def numerics_differences(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return what differs between two numerics, a phrase each.

    >>> numerics_differences({"torch": "2.12.0", "threads": 1}, {"torch": "2.13.0", "threads": 1})
    ['torch 2.12.0, here 2.13.0']
    """
    return [
        f"{key} {recorded[key]}, here {here.get(key)}"
        for key in recorded
        if recorded[key] != here.get(key)
    ]


def _processor(device: str) -> str:
    """Return the model of the device: its kernels, and so its rounding, are chosen by it."""
    import torch

    if device != "cpu":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = (line for line in info.read_text().splitlines() if line.startswith("model name"))
        name = next((line.partition(":")[2].strip() for line in models), name)
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"
