"""Max-pooling by slices has torch's values and gradients to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import grad, hessian, jvp, vmap
from torch.nn import functional

from schedsearch.engines.lanes.pooling import DisjointMaxPooling

POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d}


def value_and_gradient(pool: Any, images: Tensor, **settings: Any) -> tuple[Tensor, Tensor]:
    images = images.clone().requires_grad_()
    pooled = pool(images, **settings)
    weights = torch.arange(1.0, 1 + pooled.numel()).view(pooled.shape)
    [gradient] = torch.autograd.grad((pooled * weights).sum(), images)
    return pooled.detach(), gradient


def assert_like_torch(pool: Any, images: Tensor, **settings: Any) -> None:
    wanted = value_and_gradient(pool, images, **settings)
    with DisjointMaxPooling():
        found = value_and_gradient(pool, images, **settings)
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours, theirs)


@given(
    dimensions=st.integers(1, 2),
    lengths=st.lists(st.integers(3, 8), min_size=3, max_size=3),
    size=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    levels=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_values_and_gradients_are_those_of_torch_also_where_numbers_are_equal(
    dimensions, lengths, size, levels, seed
):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 3, *lengths[:dimensions])
    images = torch.randint(-levels, levels + 1, shape, generator=generator).float()
    assert_like_torch(POOLS[dimensions], images, kernel_size=tuple(size[:dimensions]))


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 2},
        {"kernel_size": (2, 3), "stride": (2, 3)},
        {"kernel_size": 2, "stride": 1},
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": 2, "padding": 1},
        {"kernel_size": 2, "dilation": 2},
        {"kernel_size": 2, "ceil_mode": True},
        {"kernel_size": np.int64(2)},
        {"kernel_size": (7, 8)},
    ],
)
def test_every_setting_gives_the_numbers_of_torch(settings):
    images = torch.randn(2, 3, 7, 8, generator=torch.Generator().manual_seed(0))
    assert_like_torch(functional.max_pool2d, images, **settings)
    assert_like_torch(lambda given, **rest: nn.MaxPool2d(**rest)(given), images, **settings)


def test_only_disjoint_windows_are_not_left_to_torch():
    images = torch.zeros(1, 1, 6, 6, requires_grad=True)
    with DisjointMaxPooling():
        ours = functional.max_pool2d(images, 2)
        others = [
            functional.max_pool2d(images, 2, stride=1),
            functional.max_pool2d(images, 2, padding=1),
            functional.max_pool2d(images, 2, ceil_mode=True),
            functional.max_pool2d(images, (2, 5)),
            functional.max_pool2d(images, 2, return_indices=True)[0],
        ]
    assert "MaxPool2D" not in ours.grad_fn.name()
    assert all("MaxPool2D" in other.grad_fn.name() for other in others)


def test_a_nan_in_a_window_stays():
    images = torch.tensor([[[1.0, float("nan"), 2.0, 3.0]]])
    with DisjointMaxPooling():
        pooled = functional.max_pool1d(images, 2)
    assert pooled[0, 0, 0].isnan()
    assert pooled[0, 0, 1] == 3.0


def test_the_gradients_of_several_lanes_are_those_of_each():
    images = torch.randn(4, 2, 3, 7, 7, generator=torch.Generator().manual_seed(0))

    def loss(given: Tensor) -> Tensor:
        return functional.max_pool2d(given.relu(), 2).square().sum()

    wanted = torch.stack([grad(loss)(one) for one in images])
    with DisjointMaxPooling():
        found = vmap(grad(loss))(images)
    assert torch.equal(found, wanted)


# torch loads its rules for derivatives of this kind by its own deprecated function.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_directional_and_second_derivatives_are_those_of_torch():
    generator = torch.Generator().manual_seed(0)
    images, tangents = torch.randn(2, 3, 2, 6, 6, generator=generator, dtype=torch.float64)

    def cubes(images: Tensor) -> Tensor:
        return (functional.max_pool2d(images.view(1, 1, 6, 6), (2, 3)) ** 3).sum()

    def derivatives() -> list[Tensor]:
        directional = jvp(lambda numbers: functional.max_pool2d(numbers, 2), (images,), (tangents,))
        return [*directional, vmap(hessian(cubes))(images[:, 0].flatten(1))]

    wanted = derivatives()
    with DisjointMaxPooling():
        found = derivatives()
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kernel_size", [0, -1, 7, (2, 2, 2)])
def test_what_torch_refuses_is_refused(kernel_size):
    with DisjointMaxPooling(), pytest.raises(RuntimeError):
        functional.max_pool2d(torch.randn(1, 1, 6, 6), kernel_size)
