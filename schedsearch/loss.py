"""A loss with named terms whose weights are set by schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from schedsearch.errors import InputError, did_you_mean

_PREFIX = "weights."


class WeightedLoss(nn.Module):
    """A weighted sum of named loss terms.

    total = sum over the terms of weights.TERM * TERM

    All weights are 1 until `set` is called. They are a buffer of the module: part of its
    state_dict, moved to devices with it, and not trained.

    >>> loss = WeightedLoss(["reconstruction", "kl"])
    >>> loss.set({"weights.kl": 0.5, "lr": 0.003})
    >>> loss({"reconstruction": torch.tensor(2.0), "kl": torch.tensor(3.0)})
    tensor(3.5000)

    Args:
        terms: the names of the terms.

    Raises:
        InputError: there are no terms, or a name occurs twice.
    """

    weights: Tensor

    def __init__(self, terms: Iterable[str]) -> None:
        super().__init__()
        self.terms = tuple(terms)
        if not self.terms or len(set(self.terms)) < len(self.terms):
            raise InputError(f"the terms are {self.terms}, but must be at least one distinct name")
        self.register_buffer("weights", torch.ones(len(self.terms)))

    def set(self, values: Mapping[str, float]) -> None:
        """Set the weights from the values of a scheduler.

        Args:
            values: the weight of a term is named `weights.TERM`; other names are ignored.

        Raises:
            InputError: a term is unknown or a weight is not finite; then no weight is changed.
        """
        names = [name for name in values if name.startswith(_PREFIX)]
        weights = {name.removeprefix(_PREFIX): values[name] for name in names}
        _check_known(weights, self.terms)
        for term, weight in weights.items():
            if not math.isfinite(weight):
                raise InputError(f"weights.{term} is {weight}, but must be a finite number")
        for i, term in enumerate(self.terms):
            if term in weights:
                self.weights[i] = weights[term]

    def forward(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms.

        Args:
            terms: a 0-d tensor for each term, by name.

        Raises:
            InputError: a term is unknown or missing.
        """
        _check_known(terms, self.terms)
        if missing := [term for term in self.terms if term not in terms]:
            raise InputError(
                f"the term `{missing[0]}` is missing; the given terms are "
                f"{', '.join(terms) or 'none'}"
            )
        parts = [
            weight * terms[term] for term, weight in zip(self.terms, self.weights, strict=True)
        ]
        return torch.stack(parts).sum()

    def extra_repr(self) -> str:
        return ", ".join(self.terms)


def weighted_losses(module: nn.Module) -> list[WeightedLoss]:
    """Return each WeightedLoss within a module."""
    return [part for part in module.modules() if isinstance(part, WeightedLoss)]


def weights_of(losses: Iterable[WeightedLoss]) -> list[str]:
    """Return the names of the weights of several losses.

    >>> weights_of([WeightedLoss(["real", "fake"]), WeightedLoss(["fake", "content"])])
    ['weights.real', 'weights.fake', 'weights.content']
    """
    return list(dict.fromkeys(_PREFIX + term for loss in losses for term in loss.terms))


def set_weights(values: Mapping[str, float], losses: Iterable[WeightedLoss]) -> None:
    """Set the weights of several losses, in each of them those of its terms.

    Args:
        values: as of `WeightedLoss.set`; a term that a loss does not have is no error.
        losses: may share names of terms, which then have one weight.

    Raises:
        InputError: a weight is not finite.
    """
    for loss in losses:
        loss.set({name: values[name] for name in weights_of([loss]) if name in values})


def _check_known(names: Iterable[str], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"the terms are {', '.join(known)}"
            raise InputError(f"this loss has no term `{name}`: {hint}")
