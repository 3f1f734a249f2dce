"""The history of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class RunHistory:
    """The history of a run: each list has one item per epoch.

    Attributes:
        values: the scheduled values; as a mapping, those at the beginning of the epoch.
        metrics: all validation metrics.
        terms: the mean of each loss term.
        clamped: the names of the values that were clamped to their bounds.
    """

    values: list[Mapping[str, float]] = field(default_factory=list)
    metrics: list[Mapping[str, float]] = field(default_factory=list)
    terms: list[Mapping[str, float]] = field(default_factory=list)
    clamped: list[tuple[str, ...]] = field(default_factory=list)

    def objective(self, metric: str) -> list[float]:
        """Return one metric by epoch."""
        return [metrics[metric] for metrics in self.metrics]
