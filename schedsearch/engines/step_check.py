"""Checks that a training loop asks for the values of the steps of an epoch, not of the training."""

from __future__ import annotations

from collections.abc import Iterable

from schedsearch.errors import TrainingRefusedError


class StepCheck:
    """The steps of an epoch for which a loop has asked for values.

    >>> check = StepCheck(epoch=1)
    >>> check.add(4, of=7)
    >>> check.check_end(["lr"])
    Traceback (most recent call last):
    schedsearch.errors.TrainingRefusedError: run.at(4, of=7) is the first step at epoch = 1, but ...

    Args:
        epoch: counted from 0.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._first: tuple[int, int] | None = None
        self._last = (0, 1)

    def add(self, step: int, of: int) -> None:
        """Record a step of the epoch."""
        if self._first is None:
            self._first = self._last = (step, of)
        self._first, self._last = min(self._first, (step, of)), max(self._last, (step, of))

    def check_end(self, moving: Iterable[str]) -> None:
        """Check that the steps begin with 0, and that they are more than a half of the epoch.

        Raises:
            InputError: they are not.
        """
        if self._first is None:
            raise TrainingRefusedError(
                f'{", ".join(moving)}: the interval is "step", but the loop did not call run.at() '
                f"at epoch = {self._epoch}: call run.at(step, of=steps) before each optimizer "
                'step, or set the interval "epoch"'
            )
        (first, of), (last, total) = self._first, self._last
        if first > 0:
            raise TrainingRefusedError(
                f"run.at({first}, of={of}) is the first step at epoch = {self._epoch}, but the "
                "steps of each epoch count from 0: pass the step within the epoch, and the number "
                "of optimizer steps of the epoch as `of`"
            )
        if 2 * (last + 1) <= total:
            raise TrainingRefusedError(
                f"run.at({last}, of={total}) is the last step at epoch = {self._epoch}: pass the "
                "number of optimizer steps of the epoch as `of`, not that of the training, and "
                "call it before each step"
            )
