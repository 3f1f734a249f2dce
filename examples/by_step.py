"""A loop that counts optimizer steps: AdamW, gradient clipping, warm-up and cosine by the step.

    schedsearch start examples/by_step.toml --trials 20

It evaluates every 25 steps. For the schedules these steps are an epoch; the loop has no others.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from schedsearch import LoopRun

STEPS = 25  # between two evaluations


def train(run: LoopRun) -> None:
    """Train a small transformer that reads a digit as eight rows of pixels."""
    torch.manual_seed(run.seed)
    digits = load_digits()
    images, labels = torch.tensor(digits.images / 16).float(), torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    held_out, rest = order[:397], order[397:][torch.randperm(1400)]
    training, validation = rest.split([1000, 400])

    layer = nn.TransformerEncoderLayer(64, 4, dim_feedforward=128, batch_first=True)
    encoder = nn.TransformerEncoder(layer, num_layers=4)
    model = nn.Sequential(nn.Linear(8, 64), encoder, nn.Flatten(), nn.Linear(8 * 64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    if run.restored:
        model.load_state_dict(run.restored["model"])
        optimizer.load_state_dict(run.restored["optimizer"])

    def loss_on(chosen: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(images[chosen]), labels[chosen])

    def evaluate(chosen: Tensor) -> float:
        model.eval()
        with torch.no_grad():
            return loss_on(chosen).item()

    for _ in run:  # ends when the trial is pruned
        model.train()
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = run.at(step, of=STEPS)["lr"]
            optimizer.zero_grad()
            loss_on(training[torch.randint(1000, (32,))]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), run.values["max_norm"])
            optimizer.step()
        run.report(val_loss=evaluate(validation))
        run.checkpoint({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    run.test(loss=evaluate(held_out))  # what `confirm` compares


train.hyperparameters = {"lr": 0.001, "max_norm": 1.0}
