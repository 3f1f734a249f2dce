"""The files and the model of a training by Lightning that another one continues or tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer, callbacks
from lightning.pytorch.callbacks import ModelCheckpoint

from schedsearch.integrations.lightning_timetable import callbacks_of


def model_state(trainer: Trainer) -> Mapping[str, Any]:
    """Return the state of the module, without copies, as a checkpoint of the trainer has it.

    The averaged weights, if the trainer has a callback that averages weights and validates them.
    Pruned parameters have their names and values without pruning.
    """
    module = trainer.lightning_module
    checkpoint: dict[str, Any] = {"state_dict": _without_masks(module.state_dict())}
    averaging = getattr(callbacks, "WeightAveraging", None)  # older versions do not have it
    for callback in callbacks_of(trainer):
        if averaging is not None and isinstance(callback, averaging):
            callback.on_save_checkpoint(trainer, module, checkpoint)
    state: Mapping[str, Any] = checkpoint["state_dict"]
    return state


def _without_masks(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state in which NAME is NAME_orig * NAME_mask, as torch's pruning computes it.

    >>> _without_masks({"weight_orig": 0.5, "weight_mask": 1.0, "bias": 0.1})
    {'bias': 0.1, 'weight': 0.5}
    """
    found = dict(state)
    for name in [n.removesuffix("_mask") for n in state if n.endswith("_mask")]:
        if f"{name}_orig" in state:
            found[name] = found.pop(f"{name}_orig") * found.pop(f"{name}_mask")
    return found


def load_best_model(trainer: Trainer, state: Mapping[str, Any], folder: Callable[[], Path]) -> None:
    """Give the module the state of the best epoch, also for `ckpt_path="best"`.

    Args:
        trainer: has trained nothing.
        state: of the module.
        folder: returns the folder for a checkpoint.
    """
    module = trainer.lightning_module
    module.load_state_dict(state, strict=module.strict_loading)
    if isinstance(trainer.checkpoint_callback, ModelCheckpoint):
        path = folder() / "best.ckpt"
        trainer.save_checkpoint(path, weights_only=True)
        trainer.checkpoint_callback.best_model_path = str(path)


def move_paths(state: Any, before: str, now: str) -> Any:
    """Return a state in which all paths within a folder lead to another folder.

    >>> move_paths({"dirpath": "/a/1", "best_k_models": {"/a/1/x.ckpt": 0.5}}, "/a/1", "/a/2")
    {'dirpath': '/a/2', 'best_k_models': {'/a/2/x.ckpt': 0.5}}
    """
    if isinstance(state, str) and (state == before or state.startswith(before + os.sep)):
        return now + state[len(before) :]
    if type(state) is dict:
        moved = partial(move_paths, before=before, now=now)
        return {moved(key): moved(value) for key, value in state.items()}
    return state
