"""Aligning point sets in the plane of which most correspondences are wrong.

Generated data: 16 problems, each a rotation by 40 to 110 degrees and a translation, fixed for ever;
8 for validation, 8 for test. The seed draws their correspondences: 100 points in a square of side
2, 40 of them moved with Gaussian noise of 0.01, 60 sent where another point belongs. Model: an
angle and a translation for each problem, starting near 0. Adam, 100 epochs of 5 full-batch steps.

Scheduled: `scale`, the c of the Geman-McClure loss of the residual r,

    loss = mean c² r² / (c² + r²).

A large c is convex and sees every point, and the outliers bias it; a small c ignores outliers, and
everything else that is further than c from its place. Shrinking c (graduated non-convexity) gets
both. The metric `error` is the mean rotation error in degrees. The problems are independent of each
other: each has its own parameters. Runtime: half a second per run on one core.

Sources: Zhou, Park and Koltun (2016), Fast Global Registration; Yang et al. (2020), Graduated
Non-Convexity for Robust Spatial Perception.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from schedsearch.task import Examples, OptimizerName, Splits

_PROBLEMS = 16
_POINTS = 100
_OUTLIERS = 60
_NOISE = 0.01


class Motion(NamedTuple):
    """Rigid motions x -> R(angle) x + t: angles (P) in radians and translations (P, 2)."""

    angle: Tensor
    translation: Tensor

    def move(self, points: Tensor) -> Tensor:
        """Return points (N, P, 2), each moved by the motion of its problem."""
        x, y = points.unbind(dim=-1)
        cosine, sine = torch.cos(self.angle), torch.sin(self.angle)
        rotated = torch.stack([cosine * x - sine * y, sine * x + cosine * y], dim=-1)
        return rotated + self.translation


class RigidMotions(nn.Module):
    """One rigid motion for each problem, the parameters being the motions themselves."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.angle = nn.Parameter(_normal((_PROBLEMS,), 0.05, generator))
        self.translation = nn.Parameter(_normal((_PROBLEMS, 2), 0.05, generator))

    def forward(self) -> Motion:
        return Motion(self.angle, self.translation)


class Registration:
    """Registration with 60 % outliers; minimise the rotation `error` in degrees."""

    hyperparameters: Mapping[str, float] = MappingProxyType(
        {"lr": 0.02, "momentum": 0.9, "scale": 0.3}
    )
    optimizer: OptimizerName = "adam"
    batch_size: int = _POINTS
    steps_per_epoch: int | None = 5
    noise: Mapping[str, tuple[int, ...]] = MappingProxyType({})

    def data(self, seed: int) -> Splits:
        truth = _true_motion()
        generator = torch.Generator().manual_seed(seed)
        source = _square(_POINTS, generator)
        target = truth.move(source) + _normal(source.shape, _NOISE, generator)
        target[:_OUTLIERS] = truth.move(_square(_OUTLIERS, generator))
        validation, test = torch.arange(_PROBLEMS).chunk(2)
        return Splits(
            train={"source": source, "target": target},
            validation=_solutions(truth, validation),
            test=_solutions(truth, test),
        )

    def model(self, seed: int) -> nn.Module:
        return RigidMotions(seed)

    def terms(
        self,
        model: nn.Module,
        batch: Examples,
        hp: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return the mean over correspondences, summed over the independent problems."""
        motion: Motion = model()
        squared = (motion.move(batch["source"]) - batch["target"]).square().sum(dim=-1)
        scale = hp["scale"].square()
        return {"misfit": (scale * squared / (scale + squared)).mean(dim=0).sum()}

    def metrics(self, model: nn.Module, split: Examples) -> dict[str, Tensor]:
        motion: Motion = model()
        angle, translation = (part[split["problem"]] for part in motion)
        turn = angle - split["angle"]
        degrees = torch.rad2deg(torch.atan2(torch.sin(turn), torch.cos(turn)).abs())
        shift = (translation - split["translation"]).norm(dim=-1)
        return {"error": degrees.mean(), "translation_error": shift.mean()}


def _true_motion() -> Motion:
    generator = torch.Generator().manual_seed(0)
    angle = torch.deg2rad(40 + 70 * torch.rand(_PROBLEMS, generator=generator))
    return Motion(angle, _normal((_PROBLEMS, 2), 0.3, generator))


def _solutions(truth: Motion, problems: Tensor) -> Examples:
    return {
        "problem": problems,
        "angle": truth.angle[problems],
        "translation": truth.translation[problems],
    }


def _square(points: int, generator: torch.Generator) -> Tensor:
    return 2 * torch.rand(points, _PROBLEMS, 2, generator=generator) - 1


def _normal(shape: tuple[int, ...], deviation: float, generator: torch.Generator) -> Tensor:
    return deviation * torch.randn(shape, generator=generator)
