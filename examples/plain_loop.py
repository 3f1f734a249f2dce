"""An ordinary PyTorch loop that trains with the schedules of a config.

    python examples/plain_loop.py [CONFIG]

Four lines call schedsearch: load, apply, set, step. The rest is an ordinary training.
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_diabetes
from torch import nn

import schedsearch

config = schedsearch.load(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "best.toml")
scheduler = config.scheduler()

torch.manual_seed(0)
patients = load_diabetes()
inputs = torch.tensor(patients.data * 442**0.5, dtype=torch.float32)
targets = torch.tensor((patients.target - patients.target.mean()) / patients.target.std()).float()
train, validation = torch.randperm(442).split([300, 142])

model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))
optimizer = torch.optim.Adam(model.parameters())
loss = schedsearch.WeightedLoss(["l2", "l1"])

for epoch in range(config.horizon):
    scheduler.apply(optimizer)  # the learning rate
    loss.set(scheduler.values)  # the weights of the loss terms
    for batch in train[torch.randperm(len(train))].split(25):
        residual = model(inputs[batch]) - targets[batch]
        total = loss({"l2": residual.square().mean(), "l1": residual.abs().mean()})
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    with torch.no_grad():
        error = (model(inputs[validation]) - targets[validation]).abs().mean().item()
    in_force = "  ".join(f"{name} {value:.4g}" for name, value in scheduler.values.items())
    print(f"epoch {epoch:2}  validation error {error:.4f}  {in_force}")
    scheduler.step(error)
