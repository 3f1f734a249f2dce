"""Aligning point sets of which most correspondences are wrong.

Generated data: 16 problems, each a rotation of 10 to 60 degrees and a translation, fixed for ever;
8 for validation, 8 for test. The seed draws their correspondences: 100 points in a cube of side 2,
40 of them moved with Gaussian noise of 0.02, 60 sent anywhere. Model: a unit quaternion and a
translation for each problem, starting near the identity. Adam, 100 epochs of 5 steps on all points.

Scheduled: `scale`, the c of the Geman-McClure loss of the residual r,

    loss = mean c² r² / (c² + r²).

A large c is convex and sees every point, and the outliers bias it; a small c ignores outliers, and
everything else that is further than c from its place. Shrinking c (graduated non-convexity) gets
both. The metric `error` is the mean rotation error in degrees. The problems are independent of each
other: each has its own parameters. Runtime: 1 second per run on one core.

Sources: Zhou, Park and Koltun (2016), Fast Global Registration; Yang et al. (2020), Graduated
Non-Convexity for Robust Spatial Perception.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from schedsearch.task import Examples, OptimizerName, Splits

_PROBLEMS = 16
_POINTS = 100
_OUTLIERS = 60
_NOISE = 0.02


class Motion(NamedTuple):
    """Rigid motions x -> R x + t: rotations (P, 3, 3) and translations (P, 3)."""

    rotation: Tensor
    translation: Tensor

    def move(self, points: Tensor) -> Tensor:
        """Return points (N, P, 3), each moved by the motion of its problem."""
        return torch.einsum("pij,npj->npi", self.rotation, points) + self.translation


def rotation_of(quaternion: Tensor) -> Tensor:
    """Return the rotation matrices (P, 3, 3) of quaternions (P, 4) of any length.

    R v = v + 2 w (q x v) + 2 q x (q x v) for a unit quaternion (w, q).
    """
    unit = quaternion / quaternion.norm(dim=-1, keepdim=True)
    w, axis = unit[:, :1, None], unit[:, 1:]
    x, y, z = axis.unbind(dim=-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(-1, 3, 3)
    rotation: Tensor = torch.eye(3, device=unit.device) + 2 * w * cross + 2 * cross @ cross
    return rotation


def degrees_between(one: Tensor, other: Tensor) -> Tensor:
    """Return the angle between rotations, |R1 - R2| = 2 sqrt(2) sin(angle / 2), in degrees."""
    chord = (one - other).flatten(-2).norm(dim=-1) / (2 * math.sqrt(2))
    return torch.rad2deg(2 * torch.asin(chord.clamp(max=1)))


class RigidMotions(nn.Module):
    """One rigid motion for each problem: a quaternion (P, 4) and a translation (P, 3)."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        identity = torch.tensor([1.0, 0.0, 0.0, 0.0])
        self.quaternion = nn.Parameter(identity + _normal((_PROBLEMS, 4), 0.05, generator))
        self.translation = nn.Parameter(_normal((_PROBLEMS, 3), 0.05, generator))

    def forward(self) -> Motion:
        return Motion(rotation_of(self.quaternion), self.translation)


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
        source = 2 * torch.rand(_POINTS, _PROBLEMS, 3, generator=generator) - 1
        target = truth.move(source) + _normal(source.shape, _NOISE, generator)
        target[:_OUTLIERS] = 4 * torch.rand(_OUTLIERS, _PROBLEMS, 3, generator=generator) - 2
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
        rotation, translation = (part[split["problem"]] for part in motion)
        shift = (translation - split["translation"]).norm(dim=-1)
        return {
            "error": degrees_between(rotation, split["rotation"]).mean(),
            "translation_error": shift.mean(),
        }


def _true_motion() -> Motion:
    generator = torch.Generator().manual_seed(0)
    axis = torch.randn(_PROBLEMS, 3, generator=generator)
    axis = axis / axis.norm(dim=-1, keepdim=True)
    angle = torch.deg2rad(10 + 50 * torch.rand(_PROBLEMS, 1, generator=generator))
    quaternion = torch.cat([torch.cos(angle / 2), torch.sin(angle / 2) * axis], dim=-1)
    return Motion(rotation_of(quaternion), _normal((_PROBLEMS, 3), 0.3, generator))


def _solutions(truth: Motion, problems: Tensor) -> Examples:
    return {
        "problem": problems,
        "rotation": truth.rotation[problems],
        "translation": truth.translation[problems],
    }


def _normal(shape: tuple[int, ...], deviation: float, generator: torch.Generator) -> Tensor:
    return deviation * torch.randn(shape, generator=generator)
