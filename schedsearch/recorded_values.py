"""Values by hyperparameter that record which of them a training reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from schedsearch.epoch_values import NamedValues

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_values


class RecordedValues(NamedValues):
    """Values by hyperparameter that record the names of those that are read.

    Names alone, as by iteration and `in`, are no reading; a copy reads all values.

    >>> read: set[str] = set()
    >>> values = RecordedValues({"lr": 0.1, "smoothing": 0.2, "weights.kl": 0.5}, read)
    >>> values["lr"], values.get("smoothing"), "weights.kl" in values, sorted(read)
    (0.1, 0.2, True, ['lr', 'smoothing'])
    >>> dict(values) == values, sorted(read)
    (True, ['lr', 'smoothing', 'weights.kl'])

    Args:
        values: by hyperparameter.
        read: the names are added to it; several values may share it.
    """

    def __init__(self, values: Mapping[str, float], read: set[str]) -> None:
        super().__init__(values)
        self._read = read

    def __getitem__(self, name: str) -> float:
        self._read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value, or the default."""
        self._read.add(name)
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        """Remove a value and return it, or the default."""
        self._read.add(name)
        return super().pop(name, *default)

    def popitem(self) -> tuple[str, float]:
        """Remove the last value, and return its name and the value."""
        name, value = super().popitem()
        self._read.add(name)
        return name, value

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return a value, or insert the default and return it."""
        self._read.add(name)
        return super().setdefault(name, default)

    def __iter__(self) -> Iterator[str]:
        # That it is overridden lets dict(values) and **values read each value by its name.
        return super().__iter__()

    def items(self) -> dict_items[str, float]:
        """Return all names with their values."""
        return self.copy().items()

    def values(self) -> dict_values[str, float]:
        """Return all values."""
        return self.copy().values()

    def copy(self) -> dict[str, float]:
        """Return the values as a dict."""
        return dict(self)

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()
