"""What the benchmarks share: repeats that alternate, tables, and what was measured on."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import optuna
import torch


@dataclass(frozen=True)
class Measured:
    """The numbers of one thing, a repeat each."""

    name: str
    numbers: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.numbers)

    def ratio_to(self, other: Measured) -> float:
        """The median of the ratios within a repeat: what the machine did then met both alike."""
        pairs = zip(self.numbers, other.numbers, strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def alternate(runs: Mapping[str, Callable[[], float]], repeats: int) -> list[Measured]:
    """Measure each in turn, and all of them again, so many times, every other time backwards.

    So what grows slower with time, as a processor that heats up, favours none of them.
    """
    numbers: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats):
        order = [*runs] if repeat % 2 == 0 else [*runs][::-1]
        for name in order:
            numbers[name].append(runs[name]())
            said = f"{name}, {repeat + 1} of {repeats}: {numbers[name][-1]:.4g}"
            print(said, file=sys.stderr, flush=True)
    return [Measured(name, tuple(found)) for name, found in numbers.items()]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines of Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def machine() -> str:
    """Return what the numbers were taken on."""
    from schedsearch.numerics import current_numerics

    processor = current_numerics("sequential")["processor"]
    cores = len(os.sched_getaffinity(0))
    torchs, optunas = torch.__version__, optuna.__version__
    python = platform.python_version()
    return f"{cores} cores of {processor}; Python {python}, torch {torchs}, optuna {optunas}"


def quiet() -> None:
    """One thread, and no word from Optuna."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


def seconds(run: Callable[[], object]) -> float:
    """Return how long something takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
