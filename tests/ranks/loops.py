"""Training loops of several ranks, on the CPU: one that works, and others that fail in some way."""

from __future__ import annotations

import atexit
import json
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from schedsearch.engines.loop import LoopRun

#: The learning rates at which rank 1 raises or hangs.
RAISES, HANGS = 0.4, 0.5


class Training:
    """A small network in DistributedDataParallel, and this rank's share of the data."""

    def __init__(self, seed: int) -> None:
        if not dist.is_initialized():
            dist.init_process_group("gloo")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        self.model = DistributedDataParallel(network)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.x = torch.linspace(-1, 1, 32)[:, None]
        self.y = (3 * self.x).sin()
        # Each rank draws other numbers from here on.
        torch.manual_seed(seed + self.rank)

    def train_epoch(self, lr: float) -> None:
        """Train two batches, half of each on each of two ranks, with noise of each rank."""
        self.optimizer.param_groups[0]["lr"] = lr
        for batch in range(2):
            chosen = slice(batch * 16 + self.rank, (batch + 1) * 16, self.size)
            x = self.x[chosen] + 0.1 * torch.randn_like(self.x[chosen])
            self.optimizer.zero_grad()
            (self.model(x) - self.y[chosen]).square().mean().backward()
            self.optimizer.step()

    @torch.no_grad()
    def loss(self) -> Tensor:
        """Return the loss on this rank's share of the data."""
        mine = slice(self.rank, None, self.size)
        return (self.model(self.x[mine]) - self.y[mine]).square().mean()


def epochs(run: LoopRun) -> Iterator[tuple[int, Training]]:
    """Yield each epoch and the training after it."""
    training = Training(run.seed)
    for epoch, hp in run:
        training.train_epoch(hp["lr"])
        yield epoch, training


def train(run: LoopRun) -> None:
    """Train on all ranks; the mean of their losses counts."""
    for _, training in epochs(run):
        run.report(reduce="mean", val_loss=training.loss())
    run.test(loss=training.loss())


def train_resumably(run: LoopRun) -> None:
    """Take a moment for each epoch, and continue from a checkpoint of all ranks."""
    training = Training(run.seed)
    if (state := run.restored) is not None:
        training.model.load_state_dict(state["model"])
        training.optimizer.load_state_dict(state["optimizer"])
    for _, hp in run:
        training.train_epoch(hp["lr"])
        time.sleep(0.05)
        run.report(reduce="mean", val_loss=training.loss())
        run.checkpoint(
            {"model": training.model.state_dict(), "optimizer": training.optimizer.state_dict()}
        )


def train_in_a_cycle(run: LoopRun) -> None:
    """Write down whether the group and a model in a reference cycle are there at the end."""
    for _, training in epochs(run):
        run.report(reduce="mean", val_loss=training.loss())
    training.itself = training
    path, model = Path(f"rank_{training.rank}.json"), weakref.ref(training.model)

    def write() -> None:
        path.write_text(json.dumps({"group": dist.is_initialized(), "model": model() is not None}))

    atexit.register(write)


def train_slowly(run: LoopRun) -> None:
    """Take a moment for each epoch, and write the process of each rank down."""
    for epoch, training in epochs(run):
        Path(f"rank_{training.rank}.pid").write_text(str(os.getpid()))
        time.sleep(0.05)
        run.report(val_loss=1.0 / (1 + epoch))


def train_endlessly(run: LoopRun) -> None:
    """Write the process of each rank down, and train an epoch that does not end."""
    for _, training in epochs(run):
        Path(f"rank_{training.rank}.pid").write_text(str(os.getpid()))
        while True:
            time.sleep(0.01)


def train_with_arguments(run: LoopRun) -> None:
    """Report an argument, the seed and the rank; or train a model that is divided among ranks."""
    loop, shift = run.arguments["loop"], run.arguments["shift"]
    if loop == "sharded":
        return _train_sharded(run)
    for _, training in epochs(run):
        if loop == "mean":
            run.report(reduce="mean", val_loss=shift + run.seed + training.rank)
        elif training.rank == 0:
            run.report(val_loss=shift + run.seed)
    return None


def _train_sharded(run: LoopRun) -> None:
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    torch.manual_seed(run.seed)
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = torch.linspace(-1, 1, 32)[dist.get_rank() :: dist.get_world_size(), None]
    for _, hp in run:
        optimizer.param_groups[0]["lr"] = hp["lr"]
        loss = (model(x) - (3 * x).sin()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.report(reduce="mean", val_loss=loss)


def train_raise_or_hang(run: LoopRun) -> None:
    """Raise or hang on rank 1 in the third epoch where lr is large; rank 0 then waits for it."""
    training = Training(run.seed)
    for epoch, hp in run:
        if training.rank == 1 and epoch == 2:
            if hp["lr"] == RAISES:
                raise ValueError("rank 1 has had enough")
            while hp["lr"] == HANGS:
                time.sleep(0.01)
        training.train_epoch(hp["lr"])
        run.report(val_loss=hp["lr"])


for _function in (
    train,
    train_resumably,
    train_in_a_cycle,
    train_slowly,
    train_endlessly,
    train_with_arguments,
    train_raise_or_hang,
):
    _function.hyperparameters = {"lr": 0.1}
train_with_arguments.arguments = {"shift": 10, "loop": "mean"}
