"""The random numbers of a training: each depends only on the run's seed, the epoch and a name.

No generator lives longer than an epoch. So an epoch can be trained from a snapshot without the
epochs before it, and a run has the same numbers whatever else trains in between. All numbers are
drawn on the CPU, so that they do not depend on the device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


def stable_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends only on the parts, in any process and version.

    A hash, since similar seeds of a Mersenne Twister give correlated numbers, and sums of seed and
    epoch collide.
    """
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a new CPU generator, seeded by the parts."""
    return torch.Generator().manual_seed(stable_seed(*parts))


def batch_indices(seed: int, epoch: int, examples: int, batch_size: int, steps: int) -> Tensor:
    """Return the indices of the examples of each step of an epoch, shape (steps, batch_size).

    They are passes over the shuffled examples, end to end; the rest of the last pass is unused.
    """
    needed = steps * batch_size
    order = generator(seed, epoch, "order")
    passes = [torch.randperm(examples, generator=order) for _ in range(-(-needed // examples))]
    return torch.cat(passes)[:needed].view(steps, batch_size)


def epoch_noise(
    seed: int, epoch: int, steps: int, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """Return the standard normal noise of an epoch by name, each of shape (steps, *shape)."""
    return {
        name: torch.randn(steps, *shape, generator=generator(seed, epoch, "noise", name))
        for name, shape in shapes.items()
    }


@contextmanager
def seeded_global_rng(device: torch.device, *parts: int | str) -> Iterator[None]:
    """Seed torch's global generators, which user code may use; restore their state afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed = stable_seed(*parts)
        if device.type == "cpu":
            # torch.manual_seed also notes for each kind of GPU which code called it, which takes
            # longer than a small model.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
        yield
