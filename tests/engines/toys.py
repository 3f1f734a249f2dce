"""Small tasks with noise, dropout and batch norm, and the same training as a training loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from schedsearch.engines.dropout import EpochDropout
from schedsearch.engines.loop import LoopRun
from schedsearch.engines.random_streams import batch_indices, epoch_noise
from schedsearch.task import Examples, OptimizerName, Splits, count_examples, count_steps


def plain(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, 1))


def with_dropout(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 1))


def with_batch_norm(width: int) -> nn.Module:
    # No bias: the normalisation removes it, so its gradient is rounding, which Adam makes large.
    first = nn.Linear(width, 8, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))


def with_pooling(width: int) -> nn.Module:
    first = nn.Conv1d(1, 4, 2, padding=1)
    pooled = nn.Sequential(nn.Unflatten(1, (1, width)), first, nn.ReLU(), nn.MaxPool1d(2))
    return nn.Sequential(pooled, nn.Flatten(), nn.Linear(4 * ((width + 1) // 2), 1))


LAYERS = {"plain": plain, "dropout": with_dropout, "batch_norm": with_batch_norm}
_MODELS = {**LAYERS, "pooling": with_pooling}


class Toy:
    """A regression with a penalty term and noisy inputs."""

    hyperparameters: Mapping[str, float] = MappingProxyType(
        {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.01, "weights.penalty": 0.1, "blur": 0.2}
    )
    batch_size = 8
    steps_per_epoch: int | None = None
    noise: Mapping[str, tuple[int, ...]] = MappingProxyType({"blur": (8, 3)})

    def __init__(self, layers: str = "plain", optimizer: OptimizerName = "adam") -> None:
        self.layers = layers
        self.optimizer: OptimizerName = optimizer

    def data(self, seed: int) -> Splits:
        generator = torch.Generator().manual_seed(seed)
        fixed = torch.Generator().manual_seed(0)
        return Splits(_examples(43, generator), _examples(20, generator), _examples(20, fixed))

    def model(self, seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return _MODELS[self.layers](3)

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        output = model(batch["x"] + hp["blur"] * noise["blur"])
        return {"fit": (output - batch["y"]).square().mean(), "penalty": output.square().mean()}

    def metrics(self, model: nn.Module, split: Examples) -> dict[str, Tensor]:
        off = model(split["x"]) - split["y"]
        return {"loss": off.square().mean(), "far": (off.abs() > 0.5).double().mean()}


class Brittle(Toy):
    """A toy whose step raises if `blur` is outside a table of four values."""

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        row = hp["blur"].long().reshape(1)
        zero = torch.zeros(4)[row].sum()
        return {name: t + zero for name, t in super().terms(model, batch, hp, noise).items()}


class Hanging(Toy):
    """A toy whose step never ends if `blur` is above 0.8; it cannot be batched."""

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        while float(hp["blur"]) > 0.8:
            pass
        return super().terms(model, batch, hp, noise)


def _examples(count: int, generator: torch.Generator) -> Examples:
    x = torch.randn(count, 3, generator=generator)
    return {"x": x, "y": x[:, :1].sin() * x[:, 1:2]}


TORCH_OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, fused=True),
    "adam": lambda parameters: torch.optim.Adam(parameters, fused=True),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, fused=True),
}


def set_group(optimizer: torch.optim.Optimizer, hp: Mapping[str, float]) -> None:
    [group] = optimizer.param_groups
    group["lr"], group["weight_decay"] = hp["lr"], hp["weight_decay"]
    if "betas" in group:
        group["betas"] = (hp["momentum"], 0.999)
    else:
        group["momentum"] = hp["momentum"]


def train_plainly(
    task: Toy,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Examples,
    seed: int,
    epoch: int,
    hp: Mapping[str, float],
) -> dict[str, float]:
    """Train an epoch of a toy in a plain loop, and return the means of its loss terms."""
    set_group(optimizer, hp)
    steps = count_steps(task, count_examples(train))
    order = batch_indices(seed, epoch, count_examples(train), task.batch_size, steps)
    noise = epoch_noise(seed, epoch, steps, task.noise)
    sums = {"fit": 0.0, "penalty": 0.0}
    model.train()
    dropout = EpochDropout(seed, epoch)
    for step in range(steps):
        batch = {name: tensor[order[step]] for name, tensor in train.items()}
        blur = {"blur": torch.tensor(hp["blur"])}
        dropout.next_step()
        with dropout:
            terms = task.terms(model, batch, blur, {"blur": noise["blur"][step]})
        loss = terms["fit"] + hp["weights.penalty"] * terms["penalty"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, term in terms.items():
            sums[name] += term.item()
    return {name: total / steps for name, total in sums.items()}


def train_toy(run: LoopRun) -> None:
    """Train a toy in a training loop, with checkpoints and a test."""
    task = Toy()
    data, model = task.data(run.seed), task.model(run.seed)
    optimizer = TORCH_OPTIMIZERS[task.optimizer](model.parameters())
    if run.restored:
        model.load_state_dict(run.restored["model"])
        optimizer.load_state_dict(run.restored["optimizer"])
    for epoch, _ in run:
        # All steps of an epoch train with the values of its beginning.
        hp = run.at(0, of=1)
        terms = train_plainly(task, model, optimizer, data.train, run.seed, epoch, hp)
        if any(math.isnan(term) for term in terms.values()):
            metrics = {"loss": math.nan, "far": math.nan}
        else:
            metrics = evaluate(task, model, data.validation)
        run.report(val_loss=metrics["loss"], val_far=metrics["far"], terms=terms)
        run.checkpoint({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    run.test(**evaluate(task, model, data.test))


train_toy.hyperparameters = dict(Toy.hyperparameters)


def evaluate(task: Toy, model: nn.Module, split: Examples) -> dict[str, float]:
    model.eval()
    with torch.no_grad():
        return {name: metric.item() for name, metric in task.metrics(model, split).items()}
