"""Small spaces as the content of a file, for tests to modify."""

import copy
from typing import Any

LINEAR = {
    "initial": {"low": 0.0, "high": 0.5},
    "final": {"low": 0.5, "high": 1.0},
    "duration": {"low": "10%", "high": "50%"},
}
SMALL: dict[str, Any] = {
    "name": "small",
    "task": "tests.engines.toys:Toy",
    "horizon": 20,
    "objective": {"metric": "val_loss"},
    "hyperparameters": {
        "lr": {"default": 0.01, "bounds": [0.0, 1.0]},
        "weights.penalty": {
            "default": 0.1,
            "families": {
                "constant": {"value": {"low": 0.01, "high": 1.0, "log": True}},
                "linear": LINEAR,
            },
        },
    },
}


def small(**changes: Any) -> dict[str, Any]:
    """Return the small space with changes at dotted keys (`__` for a dot); None removes a key."""
    content = copy.deepcopy(SMALL)
    for key, value in changes.items():
        *tables, last = key.split("__")
        table = content
        for name in tables:
            table = table.setdefault(name, {})
        if value is None:
            del table[last]
        else:
            table[last] = value
    return content


def searching(families: dict[str, Any], **others: Any) -> dict[str, Any]:
    """Return a space that searches `u` with a constant and these families; `others` are tables."""
    constant = {"constant": {"value": {"low": 0.0, "high": 1.0}}}
    content = {key: value for key, value in SMALL.items() if key != "hyperparameters"}
    content["hyperparameters"] = {"u": {"default": 0.5, "families": constant | families}}
    return copy.deepcopy(content | others)
