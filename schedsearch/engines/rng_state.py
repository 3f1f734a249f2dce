"""The global random generators of a process, one state for each run that draws from them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class RngState:
    """The global generators of torch, NumPy and Python as one run left them.

    Loops take turns within a process, and most draw from these: each finds its own, seeded by its
    run, as if it were alone.
    """

    def __init__(self, seed: int) -> None:
        with self._put_back():
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            self._states = self._read()

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Let the run draw from its own, and the rest of the process not notice."""
        with self._put_back():
            self._write(self._states)
            try:
                yield
            finally:
                self._states = self._read()

    def state(self) -> dict[str, Any]:
        """Return what `restore` puts back: tensors and numbers."""
        on_cpu, on_gpus, (_, keys, *of_numpy), (version, words, gauss) = self._states
        return {
            "torch": on_cpu.clone(),
            "gpus": [state.clone() for state in on_gpus],
            "numpy": [torch.from_numpy(keys.astype(np.int64)), *of_numpy],
            "python": [version, torch.tensor(words), gauss],
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> None:
        """Put a state back that a run had after an epoch."""
        keys, *of_numpy = state["numpy"]
        version, words, gauss = state["python"]
        cls._write(
            (
                state["torch"],
                list(state["gpus"]),
                ("MT19937", keys.numpy().astype(np.uint32), *of_numpy),
                (version, tuple(words.tolist()), gauss),
            )
        )

    @classmethod
    @contextmanager
    def _put_back(cls) -> Iterator[None]:
        before = cls._read()
        try:
            yield
        finally:
            cls._write(before)

    @staticmethod
    def _read() -> tuple[Any, ...]:
        on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return torch.get_rng_state(), on_gpus, np.random.get_state(), random.getstate()

    @staticmethod
    def _write(states: tuple[Any, ...]) -> None:
        on_cpu, on_gpus, of_numpy, of_python = states
        torch.set_rng_state(on_cpu)
        if on_gpus:
            torch.cuda.set_rng_state_all(on_gpus)
        np.random.set_state(of_numpy)
        random.setstate(of_python)
