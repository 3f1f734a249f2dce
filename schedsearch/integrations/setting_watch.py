"""Finds values of a plan that another part of the training changes in the optimizers."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from schedsearch.errors import TrainingRefusedError
from schedsearch.parameter_groups import Group, Setting, get_value
from schedsearch.scheduler import as_float

#: By optimizer, the hook of the watch that has watched it last.
_HOOKS: WeakKeyDictionary[Optimizer, RemovableHandle] = WeakKeyDictionary()


class SettingWatch:
    """Checks that optimizers keep the values that were set in them."""

    def __init__(self) -> None:
        #: What is set in the optimizers, each with a mark of the value found there.
        self._settings: list[tuple[Setting, Any]] = []
        #: Of the optimizers that are watched.
        self._hooks: list[RemovableHandle] = []

    def expect(self, settings: Iterable[Setting]) -> None:
        """Expect these values from now on, which are in the optimizers."""
        self._settings = [((g, key, value), _mark(g, key)) for g, key, value in settings]

    def check(self) -> None:
        """Check that the optimizers have the values that were set in them.

        Raises:
            InputError: one has another value.
        """
        for (group, key, value), mark in self._settings:
            if _mark(group, key) != mark and not _has_value(group, key, value):
                found = as_float(get_value(group, key))
                raise TrainingRefusedError(
                    f"the plan has set `{key}` to {value:g}, but at an optimizer step it is "
                    f"{found:g}: another part of the training changes it, such as a learning rate "
                    f"scheduler, a callback or the module; remove that, or take `{key}` out of the "
                    "plan"
                )

    def begin(self, optimizers: Iterable[Optimizer]) -> None:
        """Check the values after each step of the optimizers, until `end`.

        What changes a value between the check before a step and the step itself is found there,
        and only there: what changes it after the step may be set again before the next one. An
        optimizer has one watch: an exception may have ended the training of the other.
        """
        # An exception may end a training that never says so: its optimizer may be used again.
        reference = weakref.ref(self)

        def check(*_: Any) -> None:
            watch = reference()
            if watch is not None:
                watch.check()

        for given in optimizers:
            optimizer = getattr(given, "optimizer", given)  # Accelerate wraps it
            if not isinstance(optimizer, Optimizer):
                continue
            hook = _HOOKS.get(optimizer)
            if hook is not None and hook in self._hooks:
                continue
            if hook is not None:
                hook.remove()
            _HOOKS[optimizer] = optimizer.register_step_post_hook(check)
            self._hooks.append(_HOOKS[optimizer])

    def end(self) -> None:
        """End the checks after each step of the optimizers."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def _mark(group: Group, key: str) -> Any:
    """Return what tells a change of a value, without waiting for a GPU to read it."""
    value = get_value(group, key)
    return (id(value), value._version) if isinstance(value, Tensor) else value


def _has_value(group: Group, key: str, value: float) -> bool:
    """Return whether a group has a value, in the precision of a tensor."""
    found = get_value(group, key)
    if isinstance(found, Tensor):
        return bool(found == torch.tensor(value, dtype=found.dtype))
    return as_float(found) == value
