"""The lanes of a worker's engines, and which trial is in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from schedsearch.argument_values import ArgumentKey, argument_key
from schedsearch.engines import Engine
from schedsearch.engines.loop import close_engine
from schedsearch.worker.trial import LiveTrial

#: Returns an engine for the plans with these arguments.
EngineMaker = Callable[[Mapping[str, Any]], Engine]
#: The engines of so many other arguments are kept while none of their lanes is in use.
_KEPT = 4


@dataclass(frozen=True)
class _Pool:
    """The engines of the plans with equal arguments, and their idle lanes."""

    engines: tuple[Engine, ...]
    idle: list[tuple[Engine, int]]

    @classmethod
    def of(cls, engines: Sequence[Engine]) -> _Pool:
        """Return a pool in which all lanes are idle."""
        return cls(tuple(engines), [(e, lane) for e in engines for lane in range(e.lanes)])

    @property
    def is_idle(self) -> bool:
        """Whether no lane is in use."""
        return len(self.idle) == sum(engine.lanes for engine in self.engines)


class LaneAllocator:
    """Puts the runs of trials into lanes, all runs of a trial or none.

    Trials of equal arguments share engines.

    Args:
        engines: for plans without arguments; all their lanes together hold at least the seeds of
            one trial.
        seeds: runs of each trial.
        make_engine: for plans with arguments; None: no plan has any.
        pools: all engines together train as many runs at once as `engines` have lanes, times this.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        seeds: int,
        make_engine: EngineMaker | None = None,
        pools: int = 1,
    ) -> None:
        self._default, self._make_engine = _Pool.of(engines), make_engine
        #: The pools of other arguments, those that were used last at the end.
        self._pools: dict[ArgumentKey, _Pool] = {}
        self._seeds, lanes = seeds, len(self._default.idle)
        if lanes < seeds:
            raise ValueError(
                f"the engines have {lanes} lanes, but must have one for each of {seeds}"
            )
        self._idle = lanes * pools

    @property
    def room(self) -> int:
        """How many trials fit into the idle lanes."""
        return self._idle // self._seeds

    def engine(self, arguments: Mapping[str, Any] = MappingProxyType({})) -> Engine:
        """Return an engine for the plans with these arguments.

        Raises what the user's code raises while it makes the task.
        """
        return self._pool(arguments).engines[0]

    def allocate(self, live: LiveTrial) -> bool:
        """Put a trial's due runs into lanes; return False if too few are idle.

        Raises what the user's code raises while it makes its data and its model.
        """
        outside = [run for run in live.due if run.lane is None]
        if not outside:
            return True
        pool = self._pool(outside[0].plan.arguments)
        if len(outside) > min(self._idle, len(pool.idle)):
            return False
        for run in outside:
            engine, lane = pool.idle.pop()
            self._idle -= 1
            try:
                run.enter_lane(lane, engine)
            except BaseException:
                pool.idle.append((engine, lane))
                self._idle += 1
                raise
        return True

    def release(self, live: LiveTrial) -> None:
        """Free the lanes of a trial."""
        for run in live.runs:
            if run.lane is not None:
                self._pool(run.plan.arguments).idle.append((run.engine, run.lane))
                self._idle += 1
                run.leave_lane()

    def _pool(self, arguments: Mapping[str, Any]) -> _Pool:
        if not arguments or self._make_engine is None:
            return self._default
        key = argument_key(arguments)
        pool = self._pools.pop(key, None)
        if pool is None:
            idle = [other for other, each in self._pools.items() if each.is_idle]
            for other in idle[: max(0, len(idle) - _KEPT + 1)]:
                for engine in self._pools.pop(other).engines:
                    close_engine(engine)
            pool = _Pool.of([self._make_engine(arguments) for _ in self._default.engines])
        self._pools[key] = pool
        return pool
