"""The states of other callbacks in a checkpoint of the Trainer, for a trial that is resumed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState


def restore_states(callbacks: Iterable[TrainerCallback], saved: Mapping[str, Any]) -> None:
    """Give callbacks the attributes that they had when the checkpoint was saved.

    The Trainer does this only with `restore_callback_states_from_checkpoint`.

    Args:
        callbacks: of the Trainer.
        saved: the states in the checkpoint by the class of the callback.
    """
    by_name = defaultdict(list)
    for callback in callbacks:
        if isinstance(callback, ExportableState):
            by_name[type(callback).__name__].append(callback)
    for name, of_class in by_name.items():
        states = saved.get(name, [])
        for callback, state in zip(
            of_class, states if isinstance(states, list) else [states], strict=False
        ):
            for attribute, value in state.get("attributes", {}).items():
                setattr(callback, attribute, value)


def find_best_checkpoint(args: TrainingArguments, state: TrainerState) -> None:
    """Let the Trainer find its best checkpoint: each worker of a trial has another folder."""
    folder = Path(args.output_dir or "")
    file = folder / f"checkpoint-{state.global_step}" / TRAINER_STATE_NAME
    try:
        path = json.loads(file.read_text())["best_model_checkpoint"]
    except (OSError, ValueError, KeyError):
        return  # the Trainer resumes from another folder
    if path and (found := folder / Path(path).name).is_dir():
        state.best_model_checkpoint = str(found)


def was_stopped(
    callbacks: Iterable[TrainerCallback],
    saved: Mapping[str, Any],
    key: str,
    args: TrainingArguments,
) -> bool:
    """Return whether a callback had stopped the training when the checkpoint was saved.

    Not if the run of the search had ended: it may have been handed back. A signal stops a training
    too, and is told from another stop only by the patience of EarlyStoppingCallback.

    Args:
        callbacks: of the Trainer, with their states.
        saved: the states in the checkpoint.
        key: of the state of the plan.
        args: of the Trainer.
    """
    for callback in callbacks:
        if (
            isinstance(callback, EarlyStoppingCallback)
            and callback.early_stopping_patience_counter >= callback.early_stopping_patience
        ):
            return True
    if getattr(args, "enable_jit_checkpoint", False) or saved.get(key, {}).get("ended"):
        return False
    control = saved.get("TrainerControl", {}).get("args", {})
    return bool(control.get("should_training_stop"))
