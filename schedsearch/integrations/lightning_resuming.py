"""What Lightning leaves out where a training continues from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelPruning

from schedsearch.errors import CheckpointRefusedError
from schedsearch.integrations.lightning_timetable import callbacks_of


def check_callbacks(trainer: Trainer) -> None:
    """Check that a trial that is resumed has the same numbers as an undisturbed one.

    Raises:
        InputError: a callback has a state that the checkpoints do not contain.
    """
    for callback in callbacks_of(trainer):
        if isinstance(callback, ModelPruning):
            raise CheckpointRefusedError(
                "ModelPruning: the checkpoints do not have its masks in a form that a new training "
                "loads, so the trial would have other numbers than an undisturbed one: let each "
                "trial begin at its first epoch, with ckpt_path=None"
            )


def shuffle_again(trainer: Trainer) -> None:
    """Let the restored random generators shuffle the data of the first epoch of a resumed run.

    Lightning has shuffled them before the generators were restored. It shuffles again by itself
    unless the training is resumed from the end of a training epoch.
    """
    loop: Any = trainer.fit_loop
    at_end = ("resumed_on_epoch_end", "restarted_on_epoch_end")
    # Older versions, which have no `is_resuming`, shuffle again then as well.
    if getattr(loop, "is_resuming", False) and any(getattr(loop, name, False) for name in at_end):
        iter(loop._data_fetcher)


# --- the validation after the last batch ----------------------------------------------------------


def request_validation(checkpoint: Mapping[str, Any]) -> None:
    """Let Lightning begin with the whole validation that is due after a checkpoint's last batch.

    Lightning continues a validation that was interrupted, but leaves out one that had not begun. So
    the progress in the checkpoint becomes that of a validation interrupted in its first batch.

    Args:
        checkpoint: saved after the last batch before a validation, or within the validation.
    """
    loops = checkpoint["loops"]["fit_loop"]
    trained = loops["epoch_loop.batch_progress"]
    for part in ("total", "current"):
        trained[part]["completed"] = trained[part]["processed"]
    validated = loops["epoch_loop.val_loop.batch_progress"]
    validated["is_last_batch"] = False
    validated["current"] = dict.fromkeys(validated["current"], 0)
    done = validated["total"]["completed"]
    validated["total"] |= {"ready": done + 1, "started": done + 1, "processed": done}


def begin_validation(trainer: Trainer) -> None:
    """Correct the progress at the beginning of a validation that was requested."""
    loop: Any = trainer.fit_loop
    # Lightning would take a checkpoint after this validation for one within it.
    loop.epoch_loop.val_loop.batch_progress.total.reset_on_restart()
    # It steps ReduceLROnPlateau after the epoch only if it is not restarting.
    loop._restarting = False
