"""A small training by the Trainer of transformers: 8 batches in a data epoch, in milliseconds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from schedsearch.integrations.transformers import ScheduleCallback
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import IncrementOnImprovement, Linear

BATCHES = 8
HORIZON = 4
INPUTS = torch.randn(96, 3, generator=torch.Generator().manual_seed(0))


class Rows(Dataset[dict[str, torch.Tensor]]):
    """Some rows of INPUTS; the label is their sum."""

    def __init__(self, first: int = 0, last: int = 2 * BATCHES) -> None:
        self.rows = range(first, last)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        inputs = INPUTS[self.rows[index]]
        return {"inputs": inputs, "labels": inputs.sum()}


class Stream(IterableDataset[dict[str, torch.Tensor]]):
    """Rows without a length."""

    def __iter__(self) -> Any:
        return iter(Rows())


class Network(nn.Module):
    """Weights that decay, and biases and a norm that do not."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.norm, self.out = nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1)

    def forward(self, inputs: Any, labels: Any = None) -> dict[str, torch.Tensor]:
        logits = self.out(self.norm(self.hidden(inputs))).squeeze(1)
        return {"loss": (logits - labels).square().mean(), "logits": logits}


class Recorder(TrainerCallback):
    """Records a key of each parameter group at each optimizer step, evaluations and logs."""

    def __init__(self, key: str = "lr") -> None:
        self.key = key
        self.steps: list[list[float]] = []
        self.evaluations: list[tuple[int, dict[str, float]]] = []
        self.logs: list[dict[str, float]] = []

    def on_pre_optimizer_step(self, args, state, control, optimizer, **given):
        self.steps.append([float(group[self.key]) for group in optimizer.param_groups])

    def on_evaluate(self, args, state, control, metrics, **given):
        self.evaluations.append((state.global_step, dict(metrics)))

    def on_log(self, args, state, control, logs, **given):
        self.logs.append(dict(logs))

    @property
    def values(self) -> list[float]:
        """The value of the first group at each optimizer step."""
        return [step[0] for step in self.steps]


#: 0.8, 0.6, 0.4, 0.2 at the interval "epoch".
LR = Linear(initial=0.8, final=0.0, duration=HORIZON)
PLAN = Plan({("lr",): LR})
PLAN_BY_STEP = Plan({("lr",): LR}, intervals={"lr": "step"})
#: Increases after each better evaluation.
CLOSED_LOOP = Plan({("lr",): IncrementOnImprovement(initial=0.01, increment=0.01)})


def rates(steps: int = BATCHES, horizon: int = HORIZON) -> list[float]:
    """Return the learning rates of PLAN for intervals of equal numbers of steps."""
    return by_interval([steps] * horizon)


def by_interval(lengths: list[int], plan: Plan = PLAN) -> list[float]:
    """Return the learning rates of an open-loop plan for intervals of these numbers of steps."""
    scheduler, values = Scheduler(plan, horizon=len(lengths)), []
    for length in lengths:
        values += [scheduler.at(step / length)["lr"] for step in range(length)]
        scheduler.step(1.0)
    return values


def make_trainer(
    folder: Path,
    plan: Plan = PLAN,
    *,
    source: Any = None,
    horizon: int = HORIZON,
    metric: str = "eval_loss",
    on_values: Callable[..., object] | None = None,
    before: tuple[TrainerCallback, ...] = (),
    after: tuple[TrainerCallback, ...] = (),
    key: str = "lr",
    trainer_class: type[Trainer] = Trainer,
    given: dict[str, Any] | None = None,
    **arguments: Any,
) -> tuple[Trainer, Recorder, ScheduleCallback]:
    """Return a Trainer with the callback, its recorder, and the callback.

    Args:
        folder: of its checkpoints.
        plan: for a scheduler.
        source: a scheduler or a run, instead of the plan.
        horizon: of the plan.
        metric: of the callback.
        on_values: of the callback.
        before: callbacks before it.
        after: callbacks after it.
        key: what the recorder records.
        trainer_class: of the Trainer.
        given: further arguments of the Trainer.
        arguments: further TrainingArguments.
    """
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "output_dir": str(folder),
        "num_train_epochs": HORIZON,
        "per_device_train_batch_size": 2,
        "eval_strategy": "epoch",
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        **copy.deepcopy(arguments),  # the Trainer changes dicts in them
    }
    source = source or Scheduler(plan, horizon=horizon)
    schedule = ScheduleCallback(source, metric=metric, on_values=on_values)
    recorder = Recorder(key)
    data: dict[str, Any] = {"train_dataset": Rows(), "eval_dataset": Rows(20, 30), **(given or {})}
    if "model_init" not in data:
        data.setdefault("model", Network())
    callbacks = [*before, schedule, *after, recorder]
    trainer = trainer_class(args=TrainingArguments(**options), callbacks=callbacks, **data)
    return trainer, recorder, schedule
