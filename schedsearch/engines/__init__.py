"""Engines, which train epochs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from schedsearch.engines.base import Engine, EpochResult, Resumed, Snapshot
from schedsearch.numerics import current_numerics_like
from schedsearch.task import Task, TrainFunction, is_train_function

__all__ = ["Engine", "EpochResult", "Resumed", "Snapshot", "closest_numerics", "make_engine"]


def closest_numerics(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numerics of a training on this machine, as close to recorded ones as possible.

    Lanes are not compiled if this machine has no compiler.

    Raises:
        InputError: torch cannot use the recorded device here.
    """
    here = current_numerics_like(recorded)
    if here["compiled"]:
        from schedsearch.engines.lanes.compiling import why_not_compiled

        here["compiled"] = why_not_compiled(here["device"]) is None
    return here


def make_engine(
    task: Task | TrainFunction,
    *,
    horizon: int,
    numerics: Mapping[str, Any] = MappingProxyType({}),
    arguments: Mapping[str, Any] = MappingProxyType({}),
) -> Engine:
    """Return the engine that trains a task with the given numerics.

    Args:
        task: a task, or a training loop, which the loop engine trains.
        horizon: the number of epochs of a full training; only a training loop needs it.
        numerics: `engine` ("sequential" or "lanes"), `lanes`, `compiled`, `device`, `threads`,
            `tf32` and `autocast`; by default one run at a time on the CPU with one thread.
        arguments: of a training loop; a task was made with its arguments.
    """
    from schedsearch.engines.precision import PrecisionSettings

    precision = PrecisionSettings(
        threads=numerics.get("threads", 1),
        tf32=numerics.get("tf32", False),
        autocast=numerics.get("autocast", False),
    )
    if is_train_function(task):
        from schedsearch.engines.loop import LoopEngine

        return LoopEngine(task, horizon=horizon, precision=precision, arguments=arguments)
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
