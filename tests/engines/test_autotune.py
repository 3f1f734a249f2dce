"""The choice of lanes weighs what it costs to choose."""

import pytest
import torch

from schedsearch.engines.autotune import choose_lanes, fixed_lanes
from schedsearch.engines.precision import DEFAULT_PRECISION
from tests.engines.test_batching import Random
from tests.engines.toys import Toy


def choose(task, **changes):
    said = []
    search = {"horizon": 100, "trials": 100, "seeds": 1, "trained": 1.0, "most_lanes": 8}
    chosen = choose_lanes(
        task, **(search | changes), precision=DEFAULT_PRECISION, device="cpu", say=said.append
    )
    return chosen, said


class NeverBuilt(Toy):
    """Raises when a step is traced."""

    def terms(self, model, batch, hp, noise):
        assert type(hp["lr"]) is torch.Tensor
        assert not torch._C._functorch.is_batchedtensor(hp["lr"])
        return super().terms(model, batch, hp, noise)


def test_with_little_work_ahead_nothing_is_built_or_compiled():
    chosen, said = choose(NeverBuilt(), trials=3, horizon=5)
    assert (chosen.lanes, chosen.compiled) == (1, False)
    assert "the whole search takes about" in chosen.reason
    assert said == []


def test_with_more_work_lanes_pay_and_with_much_compiling_does():
    chosen, said = choose(Toy(), trials=10_000, seeds=2)
    assert chosen.lanes in (4, 8)
    assert "times the plain loop's speed" in chosen.reason
    assert chosen.compiled == bool(said)


def test_a_task_that_cannot_be_batched_is_told_why():
    chosen, _ = choose(Random(), trials=100_000)
    assert chosen.lanes == 1
    assert "cannot be batched: torch.randn_like draws random numbers" in chosen.reason
    assert (
        fixed_lanes(Random(), 4, precision=DEFAULT_PRECISION, device="cpu").reason == chosen.reason
    )


def test_a_missing_compiler_leaves_lanes_that_are_not_compiled(monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", fail)
    chosen, said = choose(Toy(), trials=100_000)
    assert said
    assert chosen.lanes > 1
    assert not chosen.compiled
    assert "compiling failed: RuntimeError: no compiler" in chosen.reason


@pytest.mark.parametrize(("most", "lanes"), [(1, 1), (0, 1)])
def test_no_room_for_two_runs_means_one_lane(most, lanes):
    chosen, _ = choose(Toy(), most_lanes=most)
    assert chosen.lanes == lanes


def test_given_lanes_are_taken():
    chosen = fixed_lanes(Toy(), 5, precision=DEFAULT_PRECISION, device="cpu")
    assert chosen.lanes == 5
    assert chosen.compiled
