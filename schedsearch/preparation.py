"""From a space file to the record of a study: everything that `start` checks before it begins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schedsearch.files import read_document
from schedsearch.fitting import fit
from schedsearch.numerics import numerics_here
from schedsearch.samplers import make_sampler, trials_of
from schedsearch.space import Space
from schedsearch.storage import StudyRecord
from schedsearch.task import fingerprint, is_train_function, load_task


def load_space(path: Path, overrides: Mapping[str, Any]) -> Space:
    """Read a space, with values that flags put in the place of the file's, by dotted key.

    Raises:
        InputError: as Space.load.
    """
    content = read_document(path)
    content.setdefault("name", path.stem)
    for key, value in overrides.items():
        if value is None:
            continue
        *tables, last = key.split(".")
        table = content
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                break  # a mistake of the file, which is told below
        else:
            table[last] = value
    return Space.from_document(content, str(path))


def prepare(space: Space, *, device: str, threads: int, file: str = "the space") -> StudyRecord:
    """Return what a study of this space fixes, after checking all that can be checked before.

    Raises:
        InputError: the task, the space or the sampler do not fit each other; `file` names the space
            in the message.
    """
    complete = fit(space, file)
    task = load_task(space.task, space.document.arguments)
    make_sampler(complete, "preparation")
    engine = "loop" if is_train_function(task) else "sequential"
    return StudyRecord(
        space=complete,
        trials=trials_of(complete, complete.search.trials),
        numerics=numerics_here(engine, device=device, threads=threads),
        fingerprint=fingerprint(task, space.task, space.document.arguments),
    )


def threads_for(workers: int) -> int:
    """Return the threads of each worker, such that workers x threads fit the machine."""
    return max(1, cores() // max(1, workers))


def cores() -> int:
    """Return how many cores this process may use."""
    # macOS does not say which those are.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
