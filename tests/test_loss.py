"""WeightedLoss: a sum of terms with weights that are set and never trained."""

import pytest
import torch
from torch import nn

from schedsearch import InputError, Plan, Scheduler, WeightedLoss
from schedsearch.schedules import Exponential


def terms(**values):
    return {name: torch.tensor(value) for name, value in values.items()}


def test_weights_are_1_until_they_are_set():
    assert WeightedLoss(["a", "b"])(terms(a=2.0, b=3.0)) == 5.0


def test_weights_are_set_from_the_values_of_a_scheduler():
    plan = Plan({("weights.kl",): Exponential(1.0, 0.5), ("lr",): Exponential(0.1, 0.5)})
    scheduler = Scheduler(plan, horizon=3)
    loss, totals = WeightedLoss(["recon", "kl"]), []
    for _ in range(3):
        loss.set(scheduler.values)
        totals.append(loss(terms(recon=1.0, kl=4.0)).item())
        scheduler.step(0.0)
    assert totals == [5.0, 3.0, 2.0]


def test_set_changes_only_the_given_weights():
    loss = WeightedLoss(["a", "b"])
    loss.set({"weights.a": 3.0})
    loss.set({"weights.b": 0.0})
    assert loss(terms(a=1.0, b=9.0)) == 3.0


def test_weights_are_never_trained_but_are_part_of_the_state():
    loss = WeightedLoss(["a", "b"])
    loss.set({"weights.a": 0.25})
    assert list(loss.parameters()) == []
    total = loss({"a": torch.ones((), requires_grad=True), "b": torch.tensor(1.0)})
    total.backward()
    assert not loss.weights.requires_grad
    restored = WeightedLoss(["a", "b"])
    restored.load_state_dict(loss.state_dict())
    assert restored(terms(a=1.0, b=1.0)) == 1.25


def test_the_gradient_of_a_term_is_multiplied_by_its_weight():
    layer, loss = nn.Linear(1, 1), WeightedLoss(["a"])
    loss.set({"weights.a": 0.5})
    loss({"a": layer(torch.ones(1, 1)).sum()}).backward()
    assert layer.weight.grad.item() == 0.5


def test_terms_keep_their_precision():
    assert WeightedLoss(["a"])({"a": torch.tensor(1.0, dtype=torch.float64)}).dtype == torch.float64


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: WeightedLoss([]), "at least one"),
        (lambda: WeightedLoss(["a", "a"]), "distinct name"),
        (lambda: WeightedLoss(["recon"]).set({"weights.recom": 1.0}), "did you mean `recon`"),
        (lambda: WeightedLoss(["a"]).set({"weights.a": float("nan")}), "weights.a is nan"),
        (lambda: WeightedLoss(["a", "b"])(terms(a=1.0)), "the term `b` is missing"),
        (lambda: WeightedLoss(["a"])(terms(a=1.0, z=1.0)), "this loss has no term `z`"),
    ],
)
def test_an_invalid_term_or_weight_is_refused(act, message):
    with pytest.raises(InputError, match=message):
        act()


def test_no_weight_is_set_if_one_of_them_is_invalid():
    loss = WeightedLoss(["a", "b"])
    with pytest.raises(InputError):
        loss.set({"weights.a": 7.0, "weights.b": float("inf")})
    assert loss.weights.tolist() == [1.0, 1.0]
