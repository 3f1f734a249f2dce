"""The scale on which the objective is modelled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schedsearch.forecast.gaussian_process import Array


@dataclass(frozen=True)
class ObjectiveScale:
    """The scale on which the objective is modelled: lower is better.

    Attributes:
        logarithmic: whether the logarithm is modelled, which needs positive values.
    """

    logarithmic: bool

    @classmethod
    def of(cls, values: Array) -> ObjectiveScale:
        """Return the logarithmic scale if all values are positive."""
        return cls(bool(values.min() > 0))

    def has(self, value: float) -> bool:
        """Whether a value is on this scale."""
        return value > 0 or not self.logarithmic

    def apply(self, values: Array) -> Array:
        """Return values on this scale."""
        if not self.logarithmic:
            return values.astype(float)
        scaled: Array = np.log(np.maximum(values, np.finfo(float).tiny))
        return scaled

    def invert(self, scaled: Array) -> Array:
        """Return the values of numbers on this scale."""
        return np.exp(scaled) if self.logarithmic else scaled
