"""Open-loop families that move one way: constant, and the decays (or growths) from an initial value."""

from __future__ import annotations

from dataclasses import dataclass

from schedsearch.schedules.base import OpenLoop
from schedsearch.schedules.parameters import Number, Positive


@dataclass(frozen=True)
class Constant(OpenLoop):
    """The same value at every epoch: what every other family has to beat.

    value(t) = value

    Args:
        value: the value, in the hyperparameter's unit.

    >>> Constant(0.1).at(59)
    0.1
    """

    value: Number

    def at(self, epoch: int) -> float:
        return self.value


@dataclass(frozen=True)
class Exponential(OpenLoop):
    """A constant factor each epoch: decay below a rate of 1, growth above it.

    value(t) = initial * decay_rate ** t

    Args:
        initial: value at epoch 0.
        decay_rate: factor from one epoch to the next, greater than 0.

    Source: torch.optim.lr_scheduler.ExponentialLR, in closed form.

    >>> [round(Exponential(initial=1.0, decay_rate=0.9).at(t), 4) for t in range(3)]
    [1.0, 0.9, 0.81]
    """

    initial: Number
    decay_rate: Positive

    def at(self, epoch: int) -> float:
        return self.initial * self.decay_rate**epoch
