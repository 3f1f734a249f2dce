"""Shared by the benchmarks: alternating repeats, tables, and the description of the machine."""

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
class Measurement:
    """The numbers of one side of a comparison, one per repeat."""

    name: str
    numbers: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.numbers)

    def ratio_to(self, other: Measurement) -> float:
        """Return the median of the ratios within a repeat, where both had the same other load."""
        pairs = zip(self.numbers, other.numbers, strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def measure_alternating(runs: Mapping[str, Callable[[], float]], repeats: int) -> list[Measurement]:
    """Run all in turn, `repeats` times, in reversed order every other time.

    So a drift, such as a processor that heats up, affects all of them equally.
    """
    numbers: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats):
        order = [*runs] if repeat % 2 == 0 else [*runs][::-1]
        for name in order:
            numbers[name].append(runs[name]())
            line = f"{name}, {repeat + 1} of {repeats}: {numbers[name][-1]:.4g}"
            print(line, file=sys.stderr, flush=True)
    return [Measurement(name, tuple(found)) for name, found in numbers.items()]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table as lines."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def describe_machine() -> str:
    """Return processor, cores and versions in words."""
    from schedsearch.numerics import current_numerics

    processor = current_numerics("sequential")["processor"]
    cores = len(os.sched_getaffinity(0))
    torchs, optunas = torch.__version__, optuna.__version__
    python = platform.python_version()
    return f"{cores} cores of {processor}; Python {python}, torch {torchs}, optuna {optunas}"


def use_one_thread() -> None:
    """Use one thread in this process, and turn off Optuna's messages."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


def time_call(run: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
