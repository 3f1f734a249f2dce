"""Snapshots as bytes: complete, equal for equal snapshots, and without pickled objects."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from schedsearch.engines import Engine, Snapshot, make_engine
from schedsearch.trajectories.snapshots import decode, encode
from tests.engines.toys import Toy

VALUES = {"lr": 0.03, "weights.penalty": 0.2}

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.builds(
        torch.tensor,
        st.lists(st.integers(-9, 9)),
        dtype=st.sampled_from(
            [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8]
        ),
    )
)
_STATES = st.recursive(
    _LEAVES,
    lambda of: (
        st.lists(of, max_size=3)
        | st.tuples(of, of)
        | st.dictionaries(st.text() | st.integers(), of, max_size=3)
    ),
    max_leaves=8,
)


def through_bytes(snapshot: Snapshot) -> Snapshot:
    content = encode(snapshot)
    assert content is not None
    return decode(content)


def equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(equal(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return (
            len(left) == len(right) and all(map(equal, left, right)) and type(left) is type(right)
        )
    return type(left) is type(right) and left == right


@given(_STATES)
def test_the_state_of_a_loop_is_preserved(state: Any) -> None:
    snapshot = Snapshot(3, {}, extra={"state": state})
    back = through_bytes(snapshot)
    assert back.epoch == 3
    assert equal(back.extra["state"], state)


def test_nan_is_preserved() -> None:
    back = through_bytes(Snapshot(1, {"w": torch.tensor([math.nan])}, extra={"best": math.nan}))
    assert math.isnan(back.extra["best"])
    assert back.model["w"].isnan().all()


def test_a_state_of_torch_is_preserved() -> None:
    """Tied and transposed weights, parameters, and an optimizer with numbers as keys."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model[1].weight = model[0].weight
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "turned": model[0].weight.t(),
        "parameter": model[0].bias,
        "random": torch.get_rng_state(),
    }
    back = through_bytes(Snapshot(1, {}, extra=state)).extra
    model.load_state_dict(back["model"])
    optimizer.load_state_dict(back["optimizer"])
    assert torch.equal(back["turned"], model[0].weight.t())
    assert equal(optimizer.state_dict(), state["optimizer"])


@pytest.mark.parametrize(
    "held", [object(), {1, 2}, torch.nn.Linear(1, 1), torch.tensor(1j), [print], b"bytes"]
)
def test_other_objects_are_not_stored(held: Any) -> None:
    assert encode(Snapshot(1, {}, extra={"state": {"held": held}})) is None


def test_equal_snapshots_give_equal_bytes() -> None:
    weights = {str(i): torch.full((i,), float(i)) for i in range(20)}
    again = {name: tensor.clone() for name, tensor in weights.items()}
    assert encode(Snapshot(1, weights)) == encode(Snapshot(1, again))


@pytest.mark.parametrize("numerics", [{}, {"engine": "lanes", "lanes": 2, "compiled": False}])
@pytest.mark.parametrize("task", [Toy("batch_norm", "adam"), Toy("plain", "sgd")])
def test_a_resumed_run_gives_the_same_bits(task: Toy, numerics: dict[str, Any]) -> None:
    engine: Engine = make_engine(task, horizon=4, numerics=numerics)
    idle = [None] * (engine.lanes - 1)
    engine.fill(0, seed=1)
    for _ in range(2):
        engine.train_epoch([VALUES, *idle])
    kept = engine.snapshot(0)
    assert kept is not None
    straight = [engine.train_epoch([VALUES, *idle])[0] for _ in range(2)]
    engine.fill(0, seed=1, snapshot=through_bytes(kept))
    assert [engine.train_epoch([VALUES, *idle])[0] for _ in range(2)] == straight


def test_a_huge_number_in_the_header_is_not_a_snapshot() -> None:
    parts = '"model": {"dict": []}, "optimizer": {"dict": []}'
    header = f'{{"epoch": 1, {parts}, "extra": {{"float": 1{"0" * 400}}}}}'
    with pytest.raises(ValueError, match="not a snapshot"):
        decode(save({}, {"snapshot": header}))
