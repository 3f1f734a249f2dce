"""Numerics: everything that changes the bits of a training but not its meaning."""

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
    processes: int = 1,
) -> dict[str, Any]:
    """Return the numerics of a training on this machine: its exact results depend on them.

    Args:
        engine: "sequential", "lanes" or "loop".
        device: as torch names it.
        threads: torch's intra-operation threads.
        lanes: the number of runs that share a step, idle lanes included.
        compiled: whether the step of the lanes is compiled.
        tf32: whether a GPU may round the factors of matrix products to 10 bits of mantissa.
        autocast: whether the models compute in bfloat16.
        processes: that train a run together.

    Raises:
        InputError: torch cannot use the device here.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        # A build of torch without CUDA raises an AssertionError.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if reason.startswith("Expected one of "):
            reason = "torch knows no such device: give a device such as cpu, cuda, cuda:1 or mps"
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
        # Without one process, so that the epochs that earlier versions cached are found.
        **({"processes": processes} if processes > 1 else {}),
    }


#: The settings that a user chooses; the others follow from the machine.
_SETTINGS = (
    "engine",
    "device",
    "threads",
    "lanes",
    "compiled",
    "tf32",
    "autocast",
    "processes",
)


def current_numerics_like(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numerics of a training on this machine with the settings of a recorded one.

    Raises:
        InputError: torch cannot use the device here.
    """
    return current_numerics(**{key: recorded[key] for key in _SETTINGS if key in recorded})


def numerics_differences(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return a phrase for each difference between two numerics.

    >>> numerics_differences({"torch": "2.12.0", "threads": 1}, {"torch": "2.13.0", "threads": 1})
    ['torch 2.12.0, here 2.13.0']
    """
    one = {"processes": 1}
    recorded, here = {**one, **recorded}, {**one, **here}
    return [
        f"{key} {recorded[key]}, here {here.get(key)}"
        for key in recorded
        if recorded[key] != here.get(key)
    ]


def changed_numerics(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is different here, of all that is recorded, and the number of processes."""
    one = {"processes": 1}
    recorded, here = {**one, **recorded}, {**one, **here}
    return {key: here[key] for key in recorded if here.get(key, recorded[key]) != recorded[key]}


def cores_of_worker(numerics: Mapping[str, Any]) -> int:
    """Return how many cores a worker with these numerics uses: the threads of all its processes."""
    return int(numerics["threads"]) * int(numerics.get("processes", 1))


def _processor(device: str) -> str:
    """Return the model of the device, on which its kernels, and so their rounding, depend."""
    import torch

    if device != "cpu":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = (line for line in info.read_text().splitlines() if line.startswith("model name"))
        name = next((line.partition(":")[2].strip() for line in models), name)
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"
