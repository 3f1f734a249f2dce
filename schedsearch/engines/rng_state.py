"""The global random generators of a process, with one state per run that draws from them."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class RngState:
    """The global generators of torch, NumPy and Python, as one run left them.

    The training loops of several runs take turns in one process, and most draw from the global
    generators. Each draws as if it were alone.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        with self._preserved():
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            self._states = self._read()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Set the global generators to the run's state; save it, and set them back, at the end."""
        with self._preserved():
            self._write(self._states)
            try:
                yield
            finally:
                self._states = self._read()

    def to_dict(self) -> dict[str, Any]:
        """Return the state as tensors and numbers, for `set_global`."""
        return _to_dict(self._states)

    @classmethod
    def global_to_json(cls) -> dict[str, Any]:
        """Return the present state of the global generators as plain data, for `from_json`."""
        state = _to_dict(cls._read())
        return {
            "torch": _to_text(state["torch"]),
            "gpus": [_to_text(gpu) for gpu in state["gpus"]],
            "numpy": [state["numpy"][0].tolist(), *state["numpy"][1:]],
            "python": [state["python"][0], state["python"][1].tolist(), state["python"][2]],
        }

    @staticmethod
    def from_json(state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the state that `global_to_json` wrote, for `set_global`.

        Raises:
            ValueError, TypeError, LookupError or AttributeError: it is not such a state.
        """
        keys, *numpy_rest = state["numpy"]
        version, words, gauss = state["python"]
        return {
            "torch": _from_text(state["torch"]),
            "gpus": [_from_text(gpu) for gpu in state["gpus"]],
            "numpy": [torch.tensor(keys, dtype=torch.int64), *numpy_rest],
            "python": [version, torch.tensor(words, dtype=torch.int64), gauss],
        }

    @classmethod
    def set_global(cls, state: Mapping[str, Any]) -> None:
        """Set the global generators to a state that `to_dict` returned."""
        keys, *numpy_rest = state["numpy"]
        version, words, gauss = state["python"]
        cls._write(
            (
                state["torch"],
                list(state["gpus"]),
                ("MT19937", keys.numpy().astype(np.uint32), *numpy_rest),
                (version, tuple(words.tolist()), gauss),
            )
        )

    @classmethod
    @contextmanager
    def _preserved(cls) -> Iterator[None]:
        before = cls._read()
        try:
            yield
        finally:
            cls._write(before)

    @staticmethod
    def _read() -> tuple[Any, ...]:
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return torch.get_rng_state(), gpus, np.random.get_state(), random.getstate()

    @staticmethod
    def _write(states: tuple[Any, ...]) -> None:
        cpu, gpus, numpy_state, python_state = states
        torch.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _to_dict(states: tuple[Any, ...]) -> dict[str, Any]:
    cpu, gpus, (_, keys, *numpy_rest), (version, words, gauss) = states
    return {
        "torch": cpu.clone(),
        "gpus": [state.clone() for state in gpus],
        "numpy": [torch.from_numpy(keys.astype(np.int64)), *numpy_rest],
        "python": [version, torch.tensor(words), gauss],
    }


def _to_text(state: torch.Tensor) -> str:
    return base64.b64encode(state.cpu().numpy().tobytes()).decode()


def _from_text(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
