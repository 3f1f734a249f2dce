"""A run of a search that continues in another folder, as the next worker of its trial does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from schedsearch.engines.loop import LoopContext, LoopEngine, LoopRun


def resume_in_moved_folder(
    train: Callable[[LoopRun], None], values: Sequence[Mapping[str, float]], folder: Path
) -> Any:
    """Train a run undisturbed, and one whose folder is moved before its last epoch.

    Args:
        train: a training loop that resumes from its files.
        values: of each epoch; their number is the horizon.
        folder: will have the folders `undisturbed` and `second`.

    Returns:
        the first result of the run that continues: where it has resumed.
    """

    def train_epochs(name: str, epochs: Sequence[Mapping[str, float]]) -> Any:
        engine = LoopEngine(train, horizon=len(values))
        engine.fill(0, 1, None, LoopContext("this run", (), lambda: folder / name))
        results = [engine.train_epoch([epoch])[0] for epoch in epochs]
        engine.test(0)
        engine.release(0)
        return results[0]

    for name in ("undisturbed", "first"):
        (folder / name).mkdir()
    train_epochs("undisturbed", values)
    train_epochs("first", values[:-1])
    (folder / "first").rename(folder / "second")
    return train_epochs("second", [values[0], values[-1]])
