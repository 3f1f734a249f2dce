"""The physics-informed tasks: their exact solutions, and the equations that they impose."""

import math

import numpy as np
import torch

from schedsearch.tasks import burgers, helmholtz
from schedsearch.tasks._networks import Jet


def test_the_reference_solves_the_burgers_equation():
    x, t = np.meshgrid(np.linspace(-0.95, 0.95, 21), np.linspace(0.05, 0.95, 10))
    step = 1e-4
    u = burgers.exact(x, t)
    right, left = burgers.exact(x + step, t), burgers.exact(x - step, t)
    u_x, u_xx = (right - left) / (2 * step), (right - 2 * u + left) / step**2
    u_t = (burgers.exact(x, t + step) - burgers.exact(x, t - step)) / (2 * step)
    assert np.abs(u_t + u * u_x - burgers.VISCOSITY * u_xx).max() < 1e-5


def test_the_reference_meets_the_initial_and_the_boundary_condition():
    x = np.linspace(-1, 1, 41)
    assert np.abs(burgers.exact(x, np.full_like(x, 1e-9)) + np.sin(np.pi * x)).max() < 1e-6
    t = np.linspace(0.01, 1, 41)
    assert np.abs(burgers.exact(np.ones_like(t), t)).max() < 1e-12


def burgers_terms(model):
    task = burgers.Burgers()
    batch = {name: tensor[:: task.steps_per_epoch] for name, tensor in task.data(0).train.items()}
    noise = {name: torch.randn(shape) for name, shape in task.noise.items()}
    return task.terms(model, batch, {}, noise)


def test_a_standing_parabola_has_the_burgers_residual_that_paper_and_pencil_give():
    """For u = x²: u u_x - nu u_xx = 2 x³ - 2 nu."""
    seen = []

    def parabola(points):
        seen.append(points)
        x, zero = points[:, 0], torch.zeros(len(points))
        return Jet(x**2, torch.stack([2 * x, zero]), torch.stack([zero + 2, zero]))

    terms = burgers_terms(parabola)
    x = seen[0][:192, 0]
    expected = (2 * x**3 - 2 * burgers.VISCOSITY).square().mean()
    torch.testing.assert_close(terms["equation"], expected)


def test_collocation_points_fill_the_domain_evenly():
    seen = []

    def zero(points):
        seen.append(points[:192])
        return Jet(points[:, 0] * 0, torch.zeros(2, len(points)), torch.zeros(2, len(points)))

    for _ in range(50):
        burgers_terms(zero)
    x, t = torch.cat(seen).T
    for share in (0.1, 0.5, 0.9):
        assert abs(((x + 1) / 2).quantile(share) - share) < 0.02
        assert abs(t.quantile(share) - share) < 0.02


def test_given_points_of_burgers_lie_on_the_initial_line_and_the_two_ends():
    train = burgers.Burgers().data(0).train
    (x, t), u = train["point"].T, train["u"]
    initial, ends = t == 0, x.abs() == 1
    assert bool((initial | ends).all())
    assert int(initial.sum()) == int(ends.sum()) == len(u) // 2
    torch.testing.assert_close(u[initial], -torch.sin(math.pi * x[initial]))
    assert not u[ends].any()


def test_the_exact_solution_has_no_helmholtz_loss():
    def solution(points):
        x, y = points.T
        sines = torch.sin(math.pi * x) * torch.sin(2 * math.pi * y)
        squared = torch.tensor([math.pi**2, 4 * math.pi**2])
        return Jet(sines, torch.zeros(2, len(points)), -squared[:, None] * sines)

    task = helmholtz.Helmholtz()
    splits = task.data(0)
    batch = {name: tensor[::20] for name, tensor in splits.train.items()}
    noise = {name: torch.randn(shape) for name, shape in task.noise.items()}
    terms = task.terms(solution, batch, {}, noise)
    assert terms["equation"] < 1e-8
    assert terms["boundary"] < 1e-8
    assert task.metrics(solution, splits.test)["error"] < 1e-6


def test_helmholtz_draws_a_quarter_of_its_points_from_each_side():
    points = helmholtz.Helmholtz().data(0).train["point"]
    sides = [(points[:, axis] == end).sum().item() for axis in (0, 1) for end in (-1, 1)]
    assert sides == [480] * 4
