"""A training loop of yours: it takes the values of each epoch from `run`, and reports the epoch.

    schedsearch start NAME.toml

Put your data, model and loop in place of these.
"""

import torch
from torch import nn
from torch.nn.functional import mse_loss

from schedsearch import LoopRun


def train(run: LoopRun) -> None:
    """Fit a curve to noisy points; a penalty on the weights keeps the curve smooth."""
    # Generated points: 200 to train, 200 to validate, and always the same 400 to test.
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(800, 1, generator=generator) - 1
    y = torch.sin(6 * x) + 0.3 * torch.randn(800, 1, generator=generator)
    torch.manual_seed(run.seed)
    training, validation = torch.randperm(400).split(200)
    test = torch.arange(400, 800)

    model = nn.Sequential(
        nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )
    optimizer = torch.optim.Adam(model.parameters())
    # Another worker may have trained some epochs: continue from its checkpoint.
    if run.restored:
        model.load_state_dict(run.restored["model"])
        optimizer.load_state_dict(run.restored["optimizer"])

    def loss_on(part: torch.Tensor) -> float:
        with torch.no_grad():
            return mse_loss(model(x[part]), y[part]).item()

    # `hp` holds the values of this epoch; the loop ends early if the trial is pruned.
    for _epoch, hp in run:
        optimizer.param_groups[0]["lr"] = hp["lr"]
        for batch in training[torch.randperm(len(training))].split(20):
            penalty = sum(p.square().mean() for p in model.parameters())
            loss = mse_loss(model(x[batch]), y[batch]) + hp["weights.penalty"] * penalty
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        run.report(val_loss=loss_on(validation))
        run.checkpoint({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    # `confirm` compares on the test split, which the search never sees.
    run.test(loss=loss_on(test))


# Every value that the loop reads from `hp`. NAME.toml says which of them move.
train.hyperparameters = {"lr": 0.01, "weights.penalty": 0.0}
