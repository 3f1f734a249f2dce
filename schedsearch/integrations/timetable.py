"""When a trainer validates and when its optimizer steps, as functions of the position.

A position is a training epoch and the number of its batches that are done. An epoch of the plan
lasts from one validation to the next, so it may be a part of a training epoch, or contain several.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

#: A training epoch, and the number of its batches that are done.
Position = tuple[int, int]


@dataclass(frozen=True)
class Timetable:
    """The validations and optimizer steps of a training.

    >>> thirds = Timetable(batches=9, check_every=3, accumulation=((0, 2),))
    >>> [thirds.position(validation) for validation in range(5)]
    [(0, 0), (0, 3), (0, 6), (0, 9), (1, 3)]
    >>> [thirds.step_of((0, batch)) for batch in range(6)]
    [(0, 1), (0, 1), (0, 1), (0, 2), (1, 2), (1, 2)]

    Attributes:
        batches: the number of batches of a training epoch; infinite if it is not known.
        check_every: the number of batches from one validation to the next, counted from the
            beginning of each training epoch; infinite: after the last batch.
        every_n_epochs: only every so many training epochs contain validations; None: the batches
            from one validation to the next are counted across training epochs.
        accumulation: the number of batches of an optimizer step from a training epoch on, as pairs
            (training epoch, batches); the last batch of a training epoch always ends a step.
    """

    batches: float
    check_every: float
    every_n_epochs: int | None = 1
    accumulation: Sequence[tuple[int, int]] = ((0, 1),)

    @property
    def counts_across_epochs(self) -> bool:
        """Whether batches are counted without regard to training epochs."""
        return self.every_n_epochs is None

    @property
    def knows_validations(self) -> bool:
        """Whether the number of validations before each position is known."""
        if self.counts_across_epochs:
            return True
        return self.check_every == math.inf or self.batches < math.inf

    @property
    def knows_steps(self) -> bool:
        """Whether the number of optimizer steps of each epoch of the plan is known."""
        if self.batches < math.inf:
            return True
        return self.counts_across_epochs and all(size == 1 for _, size in self.accumulation)

    def is_validation(self, position: Position) -> bool | None:
        """Return whether a validation is due after the last batch; None if it is not known."""
        epoch, batch = position
        if self.counts_across_epochs:
            return self._batches_before(position) % self.check_every == 0
        if (epoch + 1) % (self.every_n_epochs or 1):
            return False
        if self.check_every < math.inf:
            return batch % self.check_every == 0
        return batch == self.batches if self.batches < math.inf else None

    def validations_before(self, position: Position) -> int:
        """Return the number of validations up to a position, one that is due there included."""
        if self.counts_across_epochs:
            return int(self._batches_before(position) // self.check_every)
        epoch, batch = position
        every = self.every_n_epochs or 1
        # As a float, an infinite number of batches would give NaN.
        within = int(batch // self.check_every) if self.check_every < math.inf else 0
        return epoch // every * self._per_epoch + (within if (epoch + 1) % every == 0 else 0)

    def position(self, validation: int) -> Position:
        """Return the position of a validation, counted from 1; 0 is the beginning."""
        if validation == 0:
            return 0, 0
        if self.counts_across_epochs:
            batches = int(validation * self.check_every)
            if self.batches == math.inf:
                return 0, batches
            epoch, batch = divmod(batches - 1, int(self.batches))
            return epoch, batch + 1
        epochs, within = divmod(validation - 1, self._per_epoch)
        step = self.batches if self.check_every == math.inf else self.check_every
        batch = int((within + 1) * step) if step < math.inf else 0
        return (epochs + 1) * (self.every_n_epochs or 1) - 1, batch

    def steps_before(self, position: Position) -> int:
        """Return the number of optimizer steps up to a position."""
        epoch, batch = position
        steps = 0
        for (first, size), end in zip(self.accumulation, self._ends, strict=True):
            epochs = min(epoch, end) - first
            if epochs > 0:
                steps += int(epochs * math.ceil(self.batches / size))
        if batch == self.batches:
            return steps + math.ceil(batch / self.accumulated(epoch))
        return steps + batch // self.accumulated(epoch)

    def accumulated(self, epoch: int) -> int:
        """Return the number of batches of an optimizer step in a training epoch."""
        return self.accumulation[bisect_right([e for e, _ in self.accumulation], epoch) - 1][1]

    def step_of(self, position: Position) -> tuple[int, int]:
        """Return the optimizer step that the next batch belongs to, and the number of steps.

        Both count in the epoch of the plan. A step belongs to the epoch of the plan in which the
        optimizer steps; batches after its last one have the values of its last step.
        """
        validation = self.validations_before(position)
        before = self.steps_before(self.position(validation))
        steps = self.steps_before(self.position(validation + 1)) - before
        return max(min(self.steps_before(position) - before, steps - 1), 0), max(steps, 1)

    def reaches(self, validation: int, max_epochs: float, max_steps: float) -> bool:
        """Return whether a training with these limits comes to a validation."""
        epoch, batch = self.position(validation)
        if epoch >= max_epochs:
            return False
        # The training ends with a step: that of the last batch must not be over before it.
        return max_steps == math.inf or self.steps_before((epoch, batch - 1)) < max_steps

    def validations(self, max_epochs: float, max_steps: float) -> float:
        """Return the number of validations of a training with these limits."""
        if max_epochs == max_steps == math.inf:
            return math.inf
        low, high = 0, 1
        while self.reaches(high, max_epochs, max_steps):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if self.reaches(middle, max_epochs, max_steps):
                low = middle
            else:
                high = middle
        return low

    def _batches_before(self, position: Position) -> int:
        epoch, batch = position
        return (int(epoch * self.batches) if epoch else 0) + batch

    @property
    def _per_epoch(self) -> int:
        """The number of validations in a training epoch that has some."""
        return 1 if self.check_every == math.inf else int(self.batches // self.check_every)

    @property
    def _ends(self) -> list[float]:
        """The training epoch before which each entry of `accumulation` ends."""
        return [*(float(first) for first, _ in self.accumulation[1:]), math.inf]
