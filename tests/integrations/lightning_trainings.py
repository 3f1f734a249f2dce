"""Small trainings by Lightning, and what their values must be by the plan."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from schedsearch.engines import make_engine
from schedsearch.integrations.lightning import ScheduleCallback
from schedsearch.plan import Plan
from schedsearch.scheduler import Scheduler
from schedsearch.schedules import Linear

HORIZON = 4
#: Batches of a training epoch.
BATCHES = 6

#: `lr` by the step, `weight_decay` by the epoch.
PLAN = Plan(
    {
        ("lr",): Linear(initial=0.1, final=0.02, duration=HORIZON),
        ("weight_decay",): Linear(initial=0.0, final=0.04, duration=HORIZON),
    },
    intervals={"lr": "step"},
)


class Model(LightningModule):
    """A linear regression; `log_metrics` is the part that tests replace."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 1)

    def loss(self, batch: list[Tensor]) -> Tensor:
        return (self.net(batch[0]).squeeze(1) - batch[1]).square().mean()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        return self.loss(batch)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch: list[Tensor], batch_idx: int) -> Any:
        self.log("test_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Manual(Model):
    """The same with manual optimization, and a step of the optimizer in each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        optimizers: Any = self.optimizers()
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Training data without a length."""

    def __init__(self, batches: int = BATCHES) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter([(torch.ones(3), torch.zeros(()))] * 2 * self.batches)


def data(batches: int = BATCHES) -> DataLoader[Any]:
    inputs = torch.randn(2 * batches, 3, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(inputs, inputs.sum(1)), 2)


class Recorder(Callback):
    """Records the values in force in each optimizer step, and the validations between them."""

    def __init__(self) -> None:
        self.epochs: list[list[dict[str, float]]] = [[]]

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        group = optimizer.param_groups[0]
        self.epochs[-1].append({k: float(group[k]) for k in ("lr", "weight_decay") if k in group})

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.epochs.append([])

    @property
    def validations(self) -> int:
        return len(self.epochs) - 1

    @property
    def steps(self) -> list[int]:
        """The number of optimizer steps in each epoch of the plan."""
        return [len(epoch) for epoch in self.epochs[: self.validations]]


def scheduler(plan: Plan = PLAN) -> Scheduler:
    return Scheduler(plan, horizon=HORIZON)


def planned(steps: list[int], plan: Plan = PLAN) -> list[list[dict[str, float]]]:
    """Return the values of the plan in epochs with these numbers of steps."""
    replayed, epochs = scheduler(plan), []
    for count in steps:
        epochs.append([replayed.at(step / count) for step in range(count)])
        replayed.step(1.0)
    return epochs


def assert_follows_plan(recorder: Recorder, epochs: int = HORIZON, plan: Plan = PLAN) -> None:
    """Assert that the training had the values of the plan in each step up to its end."""
    assert recorder.validations == epochs
    assert recorder.epochs[:epochs] == planned(recorder.steps, plan)
    assert recorder.epochs[epochs:] == [[]]


def trainer(schedule: Any, *callbacks: Callback, **options: Any) -> Trainer:
    """Return a quiet trainer with the callback."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    settings: dict[str, Any] = {"max_epochs": HORIZON, "accelerator": "cpu", "devices": 1}
    settings |= dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    settings["enable_checkpointing"] = False
    return Trainer(callbacks=[schedule, *callbacks], **(settings | options))


def fit(
    *callbacks: Callback,
    module: LightningModule | None = None,
    plan: Plan = PLAN,
    metric: str = "val_loss",
    source: Any = None,
    fitted: dict[str, Any] | None = None,
    training: Any = None,
    validation: Any = None,
    on_values: Any = None,
    **options: Any,
) -> Recorder:
    """Train with the plan, and return the values in force."""
    torch.manual_seed(0)
    schedule = ScheduleCallback(source or scheduler(plan), metric=metric, on_values=on_values)
    recorder = Recorder()
    trainer(schedule, *callbacks, recorder, **options).fit(
        module or Model(),
        data() if training is None else training,
        data(2) if validation is None else validation,
        **{"weights_only": True, **(fitted or {})},
    )
    return recorder


def search_epochs(train: Any, epochs: int = HORIZON, plan: Plan = PLAN) -> list[dict[str, float]]:
    """Train a run of a search for some epochs, and return the metrics of each."""
    train.hyperparameters = {"lr": 0.1, "weight_decay": 0.0}
    engine = make_engine(train, horizon=HORIZON)
    engine.fill(0, seed=1)
    replayed, metrics = scheduler(plan), []
    try:
        for _ in range(epochs):
            [result] = engine.train_epoch([replayed.epoch_values])
            if isinstance(result, Exception):
                raise result
            assert result is not None
            metrics.append(dict(result.metrics))
            replayed.step(1.0)
        engine.test(0)
    finally:
        engine.release(0)
    return metrics
