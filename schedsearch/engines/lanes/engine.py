"""The lanes engine: many runs of a task in one batched step; lanes can be refilled any time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from schedsearch.engines.base import EpochResult, Snapshot
from schedsearch.engines.lanes.optimizers import LANE_OPTIMIZERS
from schedsearch.engines.lanes.probe import Probe
from schedsearch.engines.lanes.program import Program, build
from schedsearch.engines.lanes.random_inputs import RandomInputs, stacked_steps
from schedsearch.engines.precision import DEFAULT_PRECISION, PrecisionSettings, pack_float32
from schedsearch.engines.task_adapter import (
    TaskAdapter,
    copy_model_tensors,
    finite_or_nan,
)
from schedsearch.epoch_values import StepValues
from schedsearch.errors import SchedSearchError
from schedsearch.task import Splits, Task


@dataclass
class _LaneRun:
    seed: int
    epoch: int
    #: Optimizer steps so far, for the bias correction of Adam.
    steps: int


class LanesEngine:
    """Trains many runs of a task as one; the results of a run do not depend on the other runs.

    Parameters, moments and data of all runs are stacked, and one step updates them all. Idle lanes
    compute too, since the kernels, and so the rounding, depend on the number of lanes. Scheduled
    values are rounded to float32, the precision of the step.

    Args:
        task: to train; it must be possible to batch it, see `why_not_batched`.
        lanes: the number of runs; part of the numerics.
        device: as torch names it.
        precision: part of the numerics.
        compiled: whether to compile the step; part of the numerics. On the CPU this needs a C++
            compiler.
    """

    def __init__(
        self,
        task: Task,
        lanes: int,
        *,
        device: str = "cpu",
        precision: PrecisionSettings = DEFAULT_PRECISION,
        compiled: bool = True,
    ) -> None:
        self.task = task
        self.lanes = lanes
        self.device = torch.device(device)
        self.precision = precision
        self.compiled = compiled
        self._optimizer = LANE_OPTIMIZERS[task.optimizer]
        self._defaults = {**self._optimizer.defaults, **task.hyperparameters}
        self._adapter = TaskAdapter(task, self.device, precision, lanes)
        self._runs: list[_LaneRun | None] = [None] * lanes
        self._program: Program | None = None

    def fill(self, lane: int, seed: int, snapshot: Snapshot | None = None) -> None:
        """Start a run in a lane; the first call also builds and compiles the step."""
        with self.precision.apply(), torch.no_grad():
            splits = self._adapter.splits(seed)
            if snapshot is None:
                model = self._adapter.make_model(seed)
            else:
                model = self._adapter.make_model_like(seed, snapshot)
            if self._program is None:
                self._program = self._build(seed, splits)
            self._program.data.assign_seed(lane, seed, splits)
            optimizer = {} if snapshot is None else snapshot.optimizer
            self._program.state.load(lane, model, optimizer)
        steps = next((t for name, t in optimizer.items() if name.startswith("step.")), 0)
        self._runs[lane] = _LaneRun(seed, 0 if snapshot is None else snapshot.epoch, int(steps))

    def train_epoch(
        self, values: Sequence[Mapping[str, float] | None]
    ) -> list[EpochResult | Exception | None]:
        """Train all lanes for one epoch; see Engine.

        An exception in the step is the result of each lane that trained: no single lane raised it.
        """
        results: list[EpochResult | Exception | None] = [
            SchedSearchError("the lane is idle: fill it first") if run is None and given else None
            for run, given in zip(self._runs, values, strict=True)
        ]
        training: dict[int, Mapping[str, StepValues]] = {
            lane: {**self._defaults, **self._adapter.values_by_step(given, run.seed)}
            for lane, (run, given) in enumerate(zip(self._runs, values, strict=True))
            if run is not None and given is not None
        }
        if training:
            try:
                with self.precision.apply(), torch.no_grad():
                    for lane, result in self._train(training).items():
                        results[lane] = result
            except Exception as error:
                for lane in training:
                    results[lane] = error
        return results

    @property
    def bytes_per_lane(self) -> int:
        """The size of a lane's parameters and moments; 0 before the first lane is filled."""
        return 0 if self._program is None else self._program.state.bytes_per_lane

    def test(self, lane: int) -> dict[str, float]:
        """Return the metrics of a lane's model on the test split, computed for this lane alone."""
        run, program = self._running(lane)
        with self.precision.apply():
            program.state.save(lane, program.model)
            splits = self._adapter.splits(run.seed)
            return self._adapter.compute_metrics(program.model, splits.test, "test_")

    def snapshot(self, lane: int) -> Snapshot:
        """Return a copy of a lane's state, in the format of the sequential engine."""
        run, program = self._running(lane)
        program.state.save(lane, program.model)
        model, extra = copy_model_tensors(program.model)
        optimizer: dict[str, Tensor] = {}
        if run.epoch:
            optimizer = {name: m[lane].clone() for name, m in program.state.moments.items()}
            if self.task.optimizer != "sgd":
                count = torch.tensor(float(run.steps), device=self.device)
                optimizer |= {f"step.{name}": count.clone() for name in program.probe.trained}
        return Snapshot(run.epoch, model, optimizer, extra)

    def release(self, lane: int) -> None:
        """End the run in a lane, if there is one."""
        self._runs[lane] = None

    def key(self, values: Mapping[str, float], seed: int) -> bytes:
        """Return the values, defaults included, as float32."""
        return pack_float32({**self._defaults, **self._adapter.values_by_step(values, seed)})

    def _build(self, seed: int, splits: Splits) -> Program:
        return build(
            self._adapter,
            splits,
            seed=seed,
            lanes=self.lanes,
            precision=self.precision,
            compile_it=self.compiled,
        )

    def _running(self, lane: int) -> tuple[_LaneRun, Program]:
        run = self._runs[lane]
        if run is None or self._program is None:
            raise SchedSearchError("the lane is idle: fill it first")
        return run, self._program

    def _train(self, values: Mapping[int, Mapping[str, StepValues]]) -> dict[int, EpochResult]:
        program = self._program
        assert program is not None
        runs = {lane: run for lane, run in enumerate(self._runs) if run is not None}
        idle = [lane for lane in runs if lane not in values]
        saved = program.state.copy(idle)
        try:
            self._take_steps(program, {lane: runs[lane] for lane in values}, values)
        finally:
            program.state.restore(idle, saved)
        for lane in values:
            runs[lane].epoch += 1
            runs[lane].steps += program.steps
        table = self._validate(program)
        return {lane: _result(program.probe, table[lane]) for lane in values}

    def _take_steps(
        self,
        program: Program,
        runs: Mapping[int, _LaneRun],
        values: Mapping[int, Mapping[str, StepValues]],
    ) -> None:
        hp, coefficients = self._hyperparameters(program, runs, values)
        by_lane = {lane: program.random_inputs(run.seed, run.epoch) for lane, run in runs.items()}
        # An idle lane gets the random numbers of another one; its results are discarded.
        any_inputs = next(iter(by_lane.values()))
        inputs = [by_lane.get(lane, any_inputs) for lane in range(self.lanes)]
        order = self._order(program, inputs)
        state = program.state.tensors()
        program.sums.zero_()
        for step, random in enumerate(stacked_steps(inputs, program.steps, self.device)):
            batch = self._batch(program, order[step]) if order is not None else []
            program.train(*state, *batch, *random, hp[step], coefficients[step], program.sums)

    def _hyperparameters(
        self,
        program: Program,
        runs: Mapping[int, _LaneRun],
        values: Mapping[int, Mapping[str, StepValues]],
    ) -> tuple[Tensor, Tensor]:
        """Return hyperparameters (steps, number, lanes), and the optimizer's coefficients by step.

        The first dimension of the hyperparameters is an expanded one unless a value moves.
        """
        idle = {**self._defaults, "lr": 0.0}
        by_lane = [values.get(lane, idle) for lane in range(self.lanes)]
        table = {
            name: _by_step([lane[name] for lane in by_lane], program.steps)
            for name in self._defaults
        }
        done = torch.tensor([runs[i].steps if i in runs else 0 for i in range(self.lanes)])
        counts = done + torch.arange(1, program.steps + 1)[:, None]
        coefficients = self._optimizer.coefficients(table, counts.double())
        hp = _stacked([table[name] for name in self.task.hyperparameters], program.steps)
        return hp.to(self.device, program.dtype), coefficients.to(self.device)

    def _order(self, program: Program, inputs: Sequence[RandomInputs]) -> Tensor | None:
        """Return the rows of the training data in each step, (steps, lanes * batch size)."""
        orders = [
            random.order + program.data.first_row(lane)
            for lane, random in enumerate(inputs)
            if random.order is not None
        ]
        return torch.stack(orders, dim=1).flatten(1).to(self.device) if orders else None

    def _batch(self, program: Program, rows: Tensor) -> list[Tensor]:
        return [
            torch.index_select(tensor, 0, rows).view(self.lanes, -1, *tensor.shape[1:])
            for tensor in program.data.rows.values()
        ]

    def _validate(self, program: Program) -> list[list[float]]:
        """Return the results of the epoch, one row per lane; one transfer from the device."""
        validation = program.data.validation.values()
        tensors = [*program.state.models(), *validation, program.sums]
        at_once = program.validation_lanes
        blocks = [
            program.validate(*(tensor[start : start + at_once] for tensor in tensors))
            for start in range(0, self.lanes, at_once)
        ]
        rows: list[list[float]] = torch.cat(blocks).tolist()
        return rows


def _by_step(lanes: Sequence[StepValues], steps: int) -> Tensor:
    """Return the float32 values of a hyperparameter as float64: (lanes,), or (steps, lanes)."""
    if any(isinstance(value, tuple) for value in lanes):
        columns = [v if isinstance(v, tuple) else (v,) * steps for v in lanes]
        return torch.tensor(columns, dtype=torch.float64).T.contiguous().float().double()
    return torch.tensor(lanes).float().double()


def _stacked(table: Sequence[Tensor], steps: int) -> Tensor:
    """Return values of hyperparameters, (lanes,) or (steps, lanes) each, as one tensor."""
    if all(values.dim() == 1 for values in table):
        return torch.stack(list(table)).expand(steps, -1, -1)
    lanes = table[0].shape[-1]
    return torch.stack([values.expand(steps, lanes) for values in table], dim=1)


def _result(probe: Probe, row: Sequence[float]) -> EpochResult:
    means = dict(zip(probe.terms, row, strict=False))
    *metrics, finite = row[len(means) :]
    return EpochResult(
        {
            f"val_{name}": finite_or_nan(value) if finite else math.nan
            for name, value in zip(probe.metrics, metrics, strict=True)
        },
        means,
    )
