"""Classification with labels that are not to be trusted, and its metrics."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def redraw(labels: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """Return labels of which a share, chosen at random, is drawn anew from all classes."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    drawn = torch.randint(classes, (len(chosen),), generator=generator)
    return labels.index_put((chosen,), drawn)


def self_labelled_cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Return the mean cross-entropy with targets that the model itself corrects.

    target = (1 - weight) * given label + weight * the model's own label (its most likely class)

    Source: Reed et al. (2015), Training Deep Neural Networks on Noisy Labels with Bootstrapping,
    the hard variant.
    """
    given = cross_entropy(logits, labels)
    own = cross_entropy(logits, logits.detach().argmax(dim=-1))
    return (1 - weight) * given + weight * own


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the share of wrong classes, a quotient of whole numbers in float64, and the loss."""
    wrong = logits.argmax(dim=-1) != labels
    return {"error": wrong.double().mean(), "loss": cross_entropy(logits, labels)}
