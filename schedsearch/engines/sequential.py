"""The sequential engine: one run at a time with torch.optim in a plain loop; the reference."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from schedsearch.engines.base import EpochResult, Snapshot
from schedsearch.engines.dropout import EpochDropout
from schedsearch.engines.optimizers import (
    load_state_tensors,
    make_optimizer,
    set_hyperparameters,
    state_tensors,
)
from schedsearch.engines.precision import DEFAULT_PRECISION, PrecisionSettings, pack_float64
from schedsearch.engines.random_streams import batch_indices, epoch_noise, seeded_global_rng
from schedsearch.engines.task_adapter import (
    TaskAdapter,
    copy_model_tensors,
    hyperparameter_dtype,
    weighted_sum,
)
from schedsearch.epoch_values import values_at_step
from schedsearch.errors import SchedSearchError
from schedsearch.task import Examples, Splits, Task, count_examples, count_steps


@dataclass
class _SequentialRun:
    seed: int
    epoch: int
    splits: Splits
    model: nn.Module
    optimizer: torch.optim.Optimizer


class SequentialEngine:
    """Trains one run of a task in a plain loop.

    Args:
        task: to train.
        device: as torch names it.
        precision: part of the numerics.
    """

    lanes = 1

    def __init__(
        self, task: Task, *, device: str = "cpu", precision: PrecisionSettings = DEFAULT_PRECISION
    ) -> None:
        self.task = task
        self.device = torch.device(device)
        self.precision = precision
        self._adapter = TaskAdapter(task, self.device, precision, lanes=1)
        self._run: _SequentialRun | None = None
        self._has_dropout = True

    def fill(self, lane: int, seed: int, snapshot: Snapshot | None = None) -> None:
        """Start a run from its seed, or from a snapshot of a run with that seed."""
        with self.precision.apply():
            splits = self._adapter.splits(seed)
            if snapshot is None:
                model = self._adapter.make_model(seed)
            else:
                model = self._adapter.make_model_like(seed, snapshot)
            optimizer = make_optimizer(self.task.optimizer, model)
            if snapshot is not None:
                load_state_tensors(optimizer, model, snapshot.optimizer)
        epoch = 0 if snapshot is None else snapshot.epoch
        self._run = _SequentialRun(seed, epoch, splits, model, optimizer)
        self._has_dropout = True

    def train_epoch(
        self, values: Sequence[Mapping[str, float] | None]
    ) -> list[EpochResult | Exception | None]:
        """Train the run for one epoch; see Engine."""
        [lane_values] = values
        if lane_values is None:
            return [None]
        try:
            with self.precision.apply():
                return [self._train_epoch(self._running(), lane_values)]
        except Exception as error:
            return [error]

    def test(self, lane: int) -> dict[str, float]:
        """Return the metrics of the run's model on the test split."""
        run = self._running()
        with self.precision.apply():
            return self._adapter.compute_metrics(run.model, run.splits.test, "test_")

    def snapshot(self, lane: int) -> Snapshot:
        """Return a copy of the run's state."""
        run = self._running()
        model, extra = copy_model_tensors(run.model)
        return Snapshot(run.epoch, model, state_tensors(run.optimizer, run.model), extra)

    def release(self, lane: int) -> None:
        """End the run."""
        self._run = None

    def key(self, values: Mapping[str, float], seed: int) -> bytes:
        """Return the values, defaults included, as float64."""
        by_step = self._adapter.values_by_step(values, seed)
        return pack_float64({**self.task.hyperparameters, **by_step})

    def _running(self) -> _SequentialRun:
        if self._run is None:
            raise SchedSearchError("the lane is idle: fill it first")
        return self._run

    def _train_epoch(self, run: _SequentialRun, scheduled: Mapping[str, float]) -> EpochResult:
        by_step = self._adapter.values_by_step(scheduled, run.seed)
        values = {**self.task.hyperparameters, **by_step}
        moving = [name for name, value in values.items() if isinstance(value, tuple)]
        hp: dict[str, Tensor] = {}
        by_term: dict[str, list[Tensor]] = {}
        dropout = EpochDropout(run.seed, run.epoch)
        run.model.train()
        with seeded_global_rng(self.device, run.seed, run.epoch, "step"):
            for step, (batch, noise) in enumerate(self._steps(run)):
                if step == 0 or moving:
                    now = values_at_step(values, step)
                    hp |= self._tensors({n: now[n] for n in (moving if step else now)}, run.model)
                    set_hyperparameters(run.optimizer, now)
                with self._dropout(dropout), self.precision.autocast_context(self.device):
                    terms = self.task.terms(run.model, batch, hp, noise)
                if run.epoch == 0 and not by_term:
                    self._add_created_parameters(run, now)
                run.optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(weighted_sum(terms, hp))
                run.optimizer.step()
                for name, term in terms.items():
                    by_term.setdefault(name, []).append(term.detach())
        run.epoch += 1
        means = {name: torch.stack(h).double().mean().item() for name, h in by_term.items()}
        return EpochResult(self._validate(run, means), means)

    def _add_created_parameters(self, run: _SequentialRun, values: Mapping[str, float]) -> None:
        """Let the optimizer train the parameters that the first step created or replaced."""
        groups = run.optimizer.param_groups
        optimized = {id(parameter) for group in groups for parameter in group["params"]}
        if not {id(p) for p in run.model.parameters() if p.requires_grad} <= optimized:
            run.optimizer = make_optimizer(self.task.optimizer, run.model)
            set_hyperparameters(run.optimizer, values)

    def _tensors(self, values: Mapping[str, float], model: nn.Module) -> dict[str, Tensor]:
        dtype = hyperparameter_dtype(model)
        return {
            name: torch.tensor(value, dtype=dtype, device=self.device)
            for name, value in values.items()
        }

    @contextlib.contextmanager
    def _dropout(self, dropout: EpochDropout) -> Iterator[None]:
        """Apply the run's dropout in a step, until a step has had none: then it would only cost."""
        if not self._has_dropout:
            yield
            return
        dropout.next_step()
        with dropout:
            yield
        self._has_dropout = bool(dropout.shapes)

    def _steps(self, run: _SequentialRun) -> Iterator[tuple[Examples, dict[str, Tensor]]]:
        """Yield the batch and the noise of each step; the data of an epoch is gathered at once."""
        examples = count_examples(run.splits.train)
        steps = count_steps(self.task, examples)
        shuffled: dict[str, Sequence[Tensor]] = {}
        if examples:
            size = self.task.batch_size
            order = batch_indices(run.seed, run.epoch, examples, size, steps)
            order = order.flatten().to(self.device)
            shuffled = {
                name: torch.split(tensor[order], size) for name, tensor in run.splits.train.items()
            }
        all_noise = epoch_noise(run.seed, run.epoch, steps, self.task.noise)
        noise = {name: tensor.to(self.device) for name, tensor in all_noise.items()}
        for step in range(steps):
            batch = {name: batches[step] for name, batches in shuffled.items()}
            yield batch, {name: tensor[step] for name, tensor in noise.items()}

    def _validate(self, run: _SequentialRun, means: Mapping[str, float]) -> dict[str, float]:
        finite = all(map(math.isfinite, means.values())) and all(
            bool(parameter.isfinite().all()) for parameter in run.model.parameters()
        )
        if finite:
            return self._adapter.compute_metrics(run.model, run.splits.validation, "val_")
        # Metrics such as a count of errors would be finite, and user code may fail on NaN. So the
        # names of the metrics come from a new model.
        fresh = self._adapter.make_model(run.seed)
        return dict.fromkeys(
            self._adapter.compute_metrics(fresh, run.splits.validation, "val_"), math.nan
        )
