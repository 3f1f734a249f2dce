"""A training loop of several processes: DistributedDataParallel, on the CPU or on GPUs.

    schedsearch start examples/distributed.toml --processes-per-trial 2 --trials 20

Each process has its share of the data. All of them get equal values, and leave the loop together.
"""

import os

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from schedsearch import LoopRun


def train(run: LoopRun) -> None:
    """Classify digits, with a schedule for the learning rate."""
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():  # once in each process, which trains many trials
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    rank, size = dist.get_rank(), dist.get_world_size()

    torch.manual_seed(run.seed)  # equal models in all processes
    digits = load_digits()
    images = torch.tensor(digits.data / 16.0, dtype=torch.float32, device=device)
    labels = torch.tensor(digits.target, device=device)
    training, validation, test = torch.randperm(len(labels)).split([1000, 400, 397])
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).to(device)
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(parallel.parameters(), momentum=0.9)
    if (state := run.restored) is not None:  # a trial that another worker began
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    def loss_on(part: torch.Tensor) -> torch.Tensor:
        mine = part[rank::size][: len(part) // size]
        return cross_entropy(parallel(images[mine]), labels[mine])

    for _epoch, hp in run:
        optimizer.param_groups[0]["lr"] = hp["lr"]
        for batch in training[torch.randperm(len(training))].split(run.arguments["batch_size"]):
            optimizer.zero_grad()
            loss_on(batch).backward()  # the mean of all processes' gradients
            optimizer.step()
        with torch.no_grad():
            run.report(reduce="mean", val_loss=loss_on(validation))
        run.checkpoint({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    with torch.no_grad():
        loss = loss_on(test)
        dist.all_reduce(loss)
        run.test(loss=loss / size)


train.hyperparameters = {"lr": 0.1}
train.arguments = {"batch_size": 50}
