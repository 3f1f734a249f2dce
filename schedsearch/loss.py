"""A loss of named terms whose weights a schedule sets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from schedsearch.errors import InputError, did_you_mean


class WeightedLoss(nn.Module):
    """A weighted sum of named loss terms: what the loss is, apart from what it is weighed by.

    total = sum over the terms of weights.TERM * TERM

    The weights are 1 until `set`; they are a buffer, so they move with the module, stand in its
    state_dict, and no optimizer trains them.

    >>> loss = WeightedLoss(["reconstruction", "kl"])
    >>> loss.set({"weights.kl": 0.5, "lr": 0.003})
    >>> loss({"reconstruction": torch.tensor(2.0), "kl": torch.tensor(3.0)})
    tensor(3.5000)

    Args:
        terms: the names of the terms.

    Raises:
        InputError: there are none, or a name stands twice.
    """

    weights: Tensor

    def __init__(self, terms: Iterable[str]) -> None:
        super().__init__()
        self.terms = tuple(terms)
        if not self.terms or len(set(self.terms)) < len(self.terms):
            raise InputError(f"the terms are {self.terms}, but must be at least one, and distinct")
        self.register_buffer("weights", torch.ones(len(self.terms)))

    def set(self, values: Mapping[str, float]) -> None:
        """Set the weights that a scheduler's values name `weights.TERM`; other values are not ours.

        Raises:
            InputError: a weight of an unknown term, or one that is not finite; nothing is set.
        """
        given = {
            n.removeprefix("weights."): v for n, v in values.items() if n.startswith("weights.")
        }
        _refuse_unknown(given, self.terms, "weighs no term of this loss")
        for term, weight in given.items():
            if not math.isfinite(weight):
                raise InputError(f"weights.{term} is {weight}, but must be a finite number")
        for i, term in enumerate(self.terms):
            if term in given:
                self.weights[i] = given[term]

    def forward(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms.

        Raises:
            InputError: a term is unknown or missing.
        """
        _refuse_unknown(terms, self.terms, "is no term of this loss")
        if missing := [term for term in self.terms if term not in terms]:
            raise InputError(f"the loss lacks the term `{missing[0]}`; it was given {list(terms)}")
        parts = [
            weight * terms[term] for term, weight in zip(self.terms, self.weights, strict=True)
        ]
        return torch.stack(parts).sum()

    def extra_repr(self) -> str:
        return ", ".join(self.terms)


def _refuse_unknown(given: Iterable[str], known: tuple[str, ...], what: str) -> None:
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known) or f"the terms are {', '.join(known)}"
            raise InputError(f"`{name}` {what}: {hint}")
