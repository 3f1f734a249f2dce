"""Training loops that weight loss terms by gradients or by learned parameters.

    schedsearch start examples/learned_weights.toml --trials 20

These rules cannot be schedule families: their values depend on the model and not on the feedback of
an epoch, so a plan could not replay them. As loops they are searched, pruned and confirmed like
other loops, and can be compared with schedules of the same weights by the same metric.

Sources: Kendall, Gal and Cipolla 2018 (weights by learned variances); Chen et al. 2018, GradNorm.
"""

import torch
from sklearn.datasets import load_wine
from torch import Tensor, nn

from schedsearch import LoopRun


class Wines(nn.Module):
    """Classifies wines by grower, and reconstructs their analysis from the same features."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(13, 16), nn.Tanh())
        self.grower, self.analysis = nn.Linear(16, 3), nn.Linear(16, 13)

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the two loss terms."""
        features = self.features(inputs)
        grower = nn.functional.cross_entropy(self.grower(features), labels)
        return torch.stack([grower, (self.analysis(features) - inputs).square().mean()])


class LearnedVariances(nn.Module):
    """total = sum_i exp(-s_i) L_i + s_i, where the model learns each s_i, the log of a variance."""

    def __init__(self, model: Wines, rate: float) -> None:
        super().__init__()
        self.logarithms = nn.Parameter(torch.zeros(2))
        self.optimizer = torch.optim.Adam(self.parameters(), rate)

    def forward(self, terms: Tensor) -> Tensor:
        return ((-self.logarithms).exp() * terms + self.logarithms).sum()

    def step(self) -> None:
        """Update s_i with the gradients of the last backward pass."""
        self.optimizer.step()
        self.optimizer.zero_grad()


class GradNorm(nn.Module):
    """Adjusts the weights w_i so that slowly learning terms get larger gradients.

    It minimises sum_i |G_i - mean(G) r_i^1.5|, where G_i is the norm of the gradient of w_i L_i
    with respect to the shared weights, and r_i what is left of L_i since the start, over its mean.
    """

    def __init__(self, model: Wines, rate: float) -> None:
        super().__init__()
        self.shared = model.features[0].weight
        self.weights = nn.Parameter(torch.ones(2))
        self.optimizer = torch.optim.Adam(self.parameters(), rate)
        self.first: Tensor | None = None

    def forward(self, terms: Tensor) -> Tensor:
        if self.first is None:
            self.first = terms.detach()
        norms = torch.stack(
            [torch.autograd.grad(term, self.shared, retain_graph=True)[0].norm() for term in terms]
        )
        weighted = self.weights * norms
        left = terms.detach() / self.first
        target = (weighted.mean() * (left / left.mean()) ** 1.5).detach()
        [gradient] = torch.autograd.grad((weighted - target).abs().sum(), self.weights)
        total = (self.weights.detach() * terms).sum()
        self.weights.grad = gradient
        return total

    def step(self) -> None:
        """Update the weights with a constant sum."""
        self.optimizer.step()
        with torch.no_grad():
            self.weights.clamp_(min=0.01).mul_(2 / self.weights.sum())


def _train(run: LoopRun, balance: type[LearnedVariances] | type[GradNorm]) -> None:
    torch.manual_seed(run.seed)
    wines = load_wine()
    inputs = torch.tensor((wines.data - wines.data.mean(0)) / wines.data.std(0)).float()
    labels = torch.tensor(wines.target)
    order = torch.randperm(178, generator=torch.Generator().manual_seed(0))
    training, validation = order[60:][torch.randperm(118)].split([60, 58])
    model = Wines()
    optimizer = torch.optim.Adam(model.parameters())
    weighted_sum = balance(model, rate=0.025)

    def error(chosen: Tensor) -> float:
        with torch.no_grad():
            return float(model(inputs[chosen], labels[chosen])[0])

    for _, hp in run:
        optimizer.param_groups[0]["lr"] = hp["lr"]
        for batch in training[torch.randperm(60)].split(20):
            terms = model(inputs[batch], labels[batch])
            optimizer.zero_grad()
            weighted_sum(terms).backward()
            optimizer.step()
            weighted_sum.step()
        grower, analysis = terms.tolist()
        run.report(val_loss=error(validation), terms={"grower": grower, "analysis": analysis})
    run.test(loss=error(order[:60]))


def train_variances(run: LoopRun) -> None:
    """Train with weights from learned variances."""
    _train(run, LearnedVariances)


def train_gradnorm(run: LoopRun) -> None:
    """Train with weights from GradNorm."""
    _train(run, GradNorm)


train_variances.hyperparameters = train_gradnorm.hyperparameters = {"lr": 0.01}
