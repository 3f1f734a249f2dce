"""The registration task."""

import math

import pytest
import torch

from schedsearch.tasks.registration import Motion, Registration


@pytest.fixture(scope="module")
def splits():
    return Registration().data(0)


def truth(splits):
    parts = splits.validation, splits.test
    angle, translation = (torch.cat([s[k] for s in parts]) for k in ("angle", "translation"))
    return Motion(angle, translation)


def test_forty_of_a_hundred_correspondences_follow_the_true_motion(splits):
    moved = truth(splits).move(splits.train["source"])
    distance = (moved - splits.train["target"]).norm(dim=-1)
    assert distance[60:].max() < 0.06
    assert (distance[:60] < 0.06).float().mean() < 0.02


def test_the_true_motion_has_no_error_and_a_turn_of_a_degree_has_one(splits):
    angle, translation = truth(splits)
    exact = Registration().metrics(lambda: Motion(angle, translation), splits.test)
    assert exact["error"] == exact["translation_error"] == 0
    turned = Motion(angle + 2 * math.pi - math.radians(1), translation)
    error = Registration().metrics(lambda: turned, splits.test)["error"]
    torch.testing.assert_close(error, torch.tensor(1.0), rtol=0, atol=1e-3)


def test_the_loss_is_geman_mcclures():
    motions = Motion(torch.zeros(1), torch.zeros(1, 2))
    batch = {"source": torch.zeros(1, 1, 2), "target": torch.tensor([[[3.0, 4.0]]])}
    terms = Registration().terms(lambda: motions, batch, {"scale": torch.tensor(2.0)}, {})
    torch.testing.assert_close(terms["misfit"], torch.tensor(4 * 25 / 29))


def test_problems_do_not_disturb_each_other(splits):
    task, model = Registration(), Registration().model(0)
    task.terms(model, splits.train, {"scale": torch.tensor(1.0)}, {})["misfit"].backward()
    alone = model.angle.grad[3].clone()
    with torch.no_grad():
        model.angle[4] += 1
    model.zero_grad()
    task.terms(model, splits.train, {"scale": torch.tensor(1.0)}, {})["misfit"].backward()
    assert model.angle.grad[3] == alone
