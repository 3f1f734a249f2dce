"""Two networks with an optimizer each: a GAN, as a training loop and with Lightning.

    schedsearch start examples/gan.toml --trials 20
    schedsearch start examples/gan_lightning.toml --trials 20

The parameter groups have names, so each network has its own learning rate in the plan.
"""

import logging

import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_iris
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

from schedsearch import LoopRun
from schedsearch.integrations.lightning import ScheduleCallback
from schedsearch.parameter_groups import apply_values

HYPERPARAMETERS = {"generator.lr": 2e-3, "discriminator.lr": 2e-3}


def flowers(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return measures of irises: 60 for training, 50 for validation, and 40 fixed ones to test."""
    measures = torch.tensor(load_iris().data).float()
    measures = (measures - measures.mean(0)) / measures.std(0)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    mixed = order[40:][torch.randperm(110, generator=torch.Generator().manual_seed(seed))]
    return measures[mixed[:60]], measures[mixed[60:]], measures[order[:40]]


def frechet_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return |m - n|^2 + tr(C + D - 2 (C D)^(1/2)) for two samples with moments m, C and n, D."""
    means, covariances = zip(*((s.mean(0), s.T.cov()) for s in (first, second)), strict=True)
    roots = torch.linalg.eigvals(covariances[0] @ covariances[1]).real.clamp(min=0).sqrt()
    traces = sum(covariance.trace() for covariance in covariances)
    return (means[0] - means[1]).square().sum() + traces - 2 * roots.sum()


class Networks(nn.Module):
    """A generator of measures, and a discriminator that tells them from real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 4))
        self.discriminator = nn.Sequential(nn.Linear(4, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimizer of each network; its parameter group has the network's name."""
        named = {"generator": self.generator, "discriminator": self.discriminator}
        return [
            torch.optim.Adam([{"params": net.parameters(), "name": name}], betas=(0.5, 0.999))
            for name, net in named.items()
        ]

    def sample(self, count: int) -> Tensor:
        """Return generated measures."""
        generated: Tensor = self.generator(torch.randn(count, 4))
        return generated

    def discriminator_loss(self, real: Tensor) -> Tensor:
        """Return the loss of the discriminator: real measures are 1, generated ones 0."""
        scores = self.discriminator(torch.cat([real, self.sample(len(real)).detach()]))
        labels = torch.cat([torch.ones(len(real), 1), torch.zeros(len(real), 1)])
        return binary_cross_entropy_with_logits(scores, labels)

    def generator_loss(self, count: int) -> Tensor:
        """Return the loss of the generator: the discriminator should take its measures for real."""
        scores = self.discriminator(self.sample(count))
        return binary_cross_entropy_with_logits(scores, torch.ones(count, 1))

    def distance(self, real: Tensor) -> Tensor:
        """Return how far 500 generated measures are from real ones."""
        with torch.no_grad():
            return frechet_distance(self.sample(500), real)


# --- as a training loop ---------------------------------------------------------------------------


def train(run: LoopRun) -> None:
    """Train both networks in turns."""
    torch.manual_seed(run.seed)
    training, validation, test = flowers(run.seed)
    networks = Networks()
    generating, discriminating = optimizers = networks.optimizers()
    for _epoch, hp in run:  # ends when the trial is pruned
        for optimizer in optimizers:
            apply_values(hp, optimizer)
        for real in training[torch.randperm(len(training))].split(20):
            discriminating.zero_grad()
            networks.discriminator_loss(real).backward()
            discriminating.step()
            generating.zero_grad()
            networks.generator_loss(len(real)).backward()
            generating.step()
        run.report(val_distance=networks.distance(validation))
    run.test(distance=networks.distance(test))


# --- with Lightning -------------------------------------------------------------------------------


class Adversaries(LightningModule):
    """The same networks, by manual optimization."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.networks = Networks()

    def training_step(self, real: Tensor, index: int) -> None:
        generating, discriminating = self.optimizers()
        discriminating.zero_grad()
        self.manual_backward(self.networks.discriminator_loss(real))
        discriminating.step()
        generating.zero_grad()
        self.manual_backward(self.networks.generator_loss(len(real)))
        generating.step()

    def validation_step(self, real: Tensor, index: int) -> None:
        self.log("val_distance", self.networks.distance(real))

    def test_step(self, real: Tensor, index: int) -> None:
        self.log("test_distance", self.networks.distance(real))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return self.networks.optimizers()


def train_with_lightning(run: LoopRun) -> None:
    """Let Lightning train, with the callback."""
    torch.manual_seed(run.seed)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    training, validation, test = flowers(run.seed)
    module = Adversaries()
    quiet = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
    fitted = Trainer(
        max_epochs=run.horizon,
        accelerator="cpu",
        callbacks=[ScheduleCallback(run, metric="val_distance")],
        **dict.fromkeys(quiet, False),
    )
    # The distance is that of a whole sample, so validation and test have one batch each.
    fitted.fit(module, DataLoader(training, 20, shuffle=True), DataLoader(validation, 50))
    [result] = fitted.test(module, DataLoader(test, 40), verbose=False)
    run.test(distance=result["test_distance"])


for _train in (train, train_with_lightning):
    _train.hyperparameters = HYPERPARAMETERS
