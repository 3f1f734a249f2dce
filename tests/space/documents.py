"""A small space as the content of a file, to be changed by each test."""

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
    """Return the small space with values at dotted keys (`__` for a dot) put in or taken out."""
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
    """Return a space that searches `u` by these families, beside a constant, and other tables."""
    constant = {"constant": {"value": {"low": 0.0, "high": 1.0}}}
    content = {key: value for key, value in SMALL.items() if key != "hyperparameters"}
    content["hyperparameters"] = {"u": {"default": 0.5, "families": constant | families}}
    return copy.deepcopy(content | others)
