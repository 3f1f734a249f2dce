"""The shared models."""

import torch

from schedsearch.tasks._networks import JetMLP, mlp


def test_a_jet_holds_the_derivatives_that_automatic_differentiation_gives():
    model = JetMLP((3, 8, 8, 1), seed=1).double()
    points = torch.rand(5, 3, dtype=torch.float64, requires_grad=True)
    jet = model(points)
    slopes = torch.autograd.grad(jet.value.sum(), points, create_graph=True)[0]
    torch.testing.assert_close(jet.first.T, slopes)
    for axis in range(3):
        curvature = torch.autograd.grad(slopes[:, axis].sum(), points, retain_graph=True)[0]
        torch.testing.assert_close(jet.second[axis], curvature[:, axis])


def test_models_are_a_function_of_the_seed_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    for build in (lambda seed: mlp((4, 5, 2), seed), lambda seed: JetMLP((2, 5, 1), seed)):
        one, same, other = build(0), build(0), build(1)
        first = [next(model.parameters()) for model in (one, same, other)]
        assert torch.equal(first[0], first[1])
        assert not torch.equal(first[0], first[2])
    assert torch.equal(torch.get_rng_state(), before)
