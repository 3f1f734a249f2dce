"""Your own training loop in a search: a function `train(run)`.

    schedsearch start examples/own_loop.toml --trials 40

The loop reads the values of each epoch from `run`, and reports each epoch.
"""

import torch
from sklearn.datasets import load_wine
from torch import nn
from torch.nn.functional import cross_entropy

from schedsearch import LoopRun


def train(run: LoopRun) -> None:
    """Classify wines from three growers, with a schedule for label smoothing."""
    torch.manual_seed(run.seed)
    wines = load_wine()
    inputs = torch.tensor((wines.data - wines.data.mean(0)) / wines.data.std(0)).float()
    labels = torch.tensor(wines.target)
    held_out = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:60]
    rest = torch.tensor(sorted(set(range(len(labels))) - set(held_out.tolist())))
    training, validation = rest[torch.randperm(len(rest))].split([60, 58])

    model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = torch.optim.Adam(model.parameters())
    if run.restored:
        model.load_state_dict(run.restored["model"])
        optimizer.load_state_dict(run.restored["optimizer"])

    def loss_on(chosen: torch.Tensor) -> float:
        with torch.no_grad():
            return cross_entropy(model(inputs[chosen]), labels[chosen]).item()

    for _epoch, hp in run:  # ends when the trial is pruned
        optimizer.param_groups[0]["lr"] = hp["lr"]
        for batch in training[torch.randperm(len(training))].split(20):
            loss = cross_entropy(
                model(inputs[batch]), labels[batch], label_smoothing=hp["label_smoothing"]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        run.report(val_loss=loss_on(validation), terms={"cross_entropy": loss.item()})
        run.checkpoint({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    run.test(loss=loss_on(held_out))  # what `confirm` compares


train.hyperparameters = {"lr": 0.01, "label_smoothing": 0.0}
