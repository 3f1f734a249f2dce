"""Engines: what trains epochs."""

from __future__ import annotations

from schedsearch.engines.base import Engine, EpochResult, Snapshot
from schedsearch.task import Task, TrainFunction, is_train_function

__all__ = ["Engine", "EpochResult", "Snapshot", "make_engine"]


def make_engine(
    task: Task | TrainFunction, *, horizon: int, device: str = "cpu", threads: int = 1
) -> Engine:
    """Return the engine that trains such a task.

    Args:
        task: what to train.
        horizon: the epochs of a full training; only a loop of the user's own has to know.
        device: where, as torch names it; a loop of the user's own decides for itself.
        threads: torch's intra-operation threads.
    """
    if is_train_function(task):
        from schedsearch.engines.loop import LoopEngine

        return LoopEngine(task, horizon=horizon, threads=threads)
    from schedsearch.engines.sequential import SequentialEngine

    return SequentialEngine(task, device=device, threads=threads)
