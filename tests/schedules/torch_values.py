"""The learning rates of torch's schedulers."""

from collections.abc import Callable

import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

#: The number of learning rates that are compared.
COUNT = 160
MakeScheduler = Callable[[torch.optim.Optimizer], LRScheduler]


def torch_values(initial: float, make: MakeScheduler, count: int = COUNT) -> list[float]:
    """Return the first `count` learning rates, with one step of the scheduler after each."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=initial)
    scheduler, values = make(optimizer), []
    for _ in range(count):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def one_cycle(
    peak: float, divisor: float, final: float, total: int, rise: int, *, three_phase: bool = False
) -> MakeScheduler:
    """Return a OneCycleLR that rises for `rise` of `total` steps."""
    return lambda optimizer: lr_scheduler.OneCycleLR(
        optimizer,
        peak,
        total_steps=total + 1,
        pct_start=(rise + 1) / (total + 1),
        div_factor=divisor,
        final_div_factor=final,
        cycle_momentum=False,
        three_phase=three_phase,
    )
