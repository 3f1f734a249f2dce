"""Engines: what trains epochs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from schedsearch.engines.base import Engine, EpochResult, Snapshot
from schedsearch.numerics import current_numerics_like
from schedsearch.task import Task, TrainFunction, is_train_function

__all__ = ["Engine", "EpochResult", "Snapshot", "closest_numerics", "make_engine"]


def closest_numerics(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numerics of a training here that follows recorded ones as far as it can.

    Without a compiler, lanes are not compiled.

    Raises:
        InputError: torch has no such device here.
    """
    here = current_numerics_like(recorded)
    if here["compiled"]:
        from schedsearch.engines.lanes.graphs import why_not_compiled

        here["compiled"] = why_not_compiled(here["device"]) is None
    return here


def make_engine(
    task: Task | TrainFunction,
    *,
    horizon: int,
    numerics: Mapping[str, Any] = MappingProxyType({}),
) -> Engine:
    """Return the engine that trains such a task as the numerics say.

    Args:
        task: what to train; a loop of the user's own has an engine of its own.
        horizon: the epochs of a full training; only a loop of the user's own has to know.
        numerics: `engine` ("sequential" or "lanes"), `lanes`, `compiled`, `device`, `threads`,
            `tf32` and `autocast`; what is left out: one run at a time on the CPU, one thread.
    """
    from schedsearch.engines.precision import PrecisionSettings

    precision = PrecisionSettings(
        threads=numerics.get("threads", 1),
        tf32=numerics.get("tf32", False),
        autocast=numerics.get("autocast", False),
    )
    if is_train_function(task):
        from schedsearch.engines.loop import LoopEngine

        return LoopEngine(task, horizon=horizon, precision=precision)
    device = numerics.get("device", "cpu")
    if numerics.get("engine") == "lanes":
        from schedsearch.engines.lanes.engine import LanesEngine

        return LanesEngine(
            task,
            numerics["lanes"],
            device=device,
            precision=precision,
            compiled=numerics.get("compiled", True),
        )
    from schedsearch.engines.sequential import SequentialEngine

    return SequentialEngine(task, device=device, precision=precision)
