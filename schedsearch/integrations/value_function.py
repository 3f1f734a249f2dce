"""The function of the user that takes the values that no optimizer and no WeightedLoss takes."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping

from schedsearch.errors import TrainingRefusedError
from schedsearch.recorded_values import RecordedValues

OnValues = Callable[[Mapping[str, float]], object]


class ValueFunction:
    """Calls `on_values`, and checks that it reads the values that it has to at its first call.

    A function that keeps the values may read them later in its first epoch.

    Args:
        function: the `on_values` of a callback.
    """

    def __init__(self, function: OnValues) -> None:
        self._function = function
        #: The values that it has to read, until that is checked.
        self._expected: tuple[str, ...] = ()
        self._read: set[str] = set()
        self._was_called = False

    def expect(self, names: Iterable[str]) -> None:
        """Expect that the function reads the values with these names, which nothing else takes."""
        self._expected, self._was_called = tuple(names), False

    def call(self, values: Mapping[str, float]) -> None:
        """Call the function.

        Raises:
            InputError: after its first call, it has not read a value that it has to, and has kept
                no reference to the values, with which it could read them later.
        """
        given = RecordedValues(values, self._read)
        kept = weakref.ref(given)
        self._function(given)
        del given
        if not self._was_called and kept() is None and (unread := self._unread):
            raise TrainingRefusedError(_message(unread, "at its first call"))
        self._was_called = True

    def end_epoch(self) -> None:
        """Warn if the function has kept values, but read some of them by the end of an epoch."""
        unread, self._expected = self._unread, ()
        if unread and self._was_called:
            warnings.warn(_message(unread, "in its first epoch"), stacklevel=2)

    @property
    def _unread(self) -> list[str]:
        return [name for name in self._expected if name not in self._read]


def _message(names: list[str], when: str) -> str:
    listed = ", ".join(f"`{name}`" for name in names)
    return (
        f"the plan sets {listed}, but nothing in this training takes it: no parameter group of the "
        "optimizer, no WeightedLoss in the model, and on_values has not read it "
        f'{when}: let on_values read values["{names[0]}"] there, or correct the name in the plan'
    )
