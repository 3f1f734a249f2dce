"""The folders of runs, in which training loops and frameworks keep their own checkpoints.

The folder of a run is a subfolder of the database's folder of checkpoints. Its name has two hashes:
one of the trial, which all its retries share, and one of everything that determines the training.
So the next worker of a lost trial finds the files, and nothing else ever does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, select

from schedsearch.errors import InputError, summarize_exception
from schedsearch.plan import Plan
from schedsearch.storage import Database
from schedsearch.storage.attributes import RETRY_OF
from schedsearch.storage.tables import trials, user_attributes
from schedsearch.trajectories.database_folders import DatabaseFolder

#: Seconds after which the folder of a trial that has ended is an orphan.
_ORPHAN_AGE = 3600.0
_UNFINISHED = select(trials.c.study_id, trials.c.number).where(
    trials.c.state.in_(("RUNNING", "WAITING"))
)
_RETRIES = (
    select(trials.c.study_id, trials.c.number, user_attributes.c.value_json)
    .join_from(trials, user_attributes, trials.c.trial_id == user_attributes.c.trial_id)
    .where(user_attributes.c.key == RETRY_OF)
)


class TrialDirectories:
    """The folders of the runs of a database's trials.

    Args:
        database: has the trials.
        folder: of the database's checkpoints.
        say: called once if a folder cannot be created.
    """

    def __init__(
        self, database: Database, folder: DatabaseFolder, say: Callable[[str], None]
    ) -> None:
        self._database, self._folder, self._say = database, folder, say
        self._has_failed = False

    def of_run(self, study_id: int, number: int, root: str, plan: Plan) -> TrialDirectory:
        """Return the folder of one run of a trial, which may not exist.

        Args:
            study_id: the id of the study.
            number: of the first row of the trial: a retry has another number.
            root: of the task, the seed, the numerics and the horizon; see `root_hash`.
            plan: of the trial.
        """
        training = _hash([root, plan.to_tables()])
        return TrialDirectory(self, f"{_hash([study_id, number])}.{training}.run")

    def create(self, name: str) -> Path | None:
        """Return a folder, and create it if it is missing; None if that is not possible."""
        try:
            return self._folder.make_subfolder(name)
        except (InputError, OSError) as error:
            if not self._has_failed:
                self._has_failed = True
                reason = error if isinstance(error, InputError) else summarize_exception(error)
                self._say(
                    f"warning: run.directory is temporary, so a lost trial begins again: {reason}"
                )
            return None

    def remove(self, name: str) -> bool:
        """Remove a folder with all its files; return False if that failed: it is swept later."""
        try:
            self._folder.remove_subfolder(name)
        except (InputError, OSError):
            return False
        return True

    def sweep(self, seconds: float = _ORPHAN_AGE) -> int:
        """Remove the folders of trials that have ended or were deleted; return how many.

        Args:
            seconds: folders that changed later are kept.
        """
        # List the folders before the trials: the trial of a folder was claimed before.
        try:
            names = list(self._folder.subfolders_older_than(seconds))
        except (InputError, OSError):
            return 0  # reported when a checkpoint cannot be read or written
        if not names:
            return 0
        kept = {_hash([study, number]) for study, number in self._database.read(_unfinished)}
        orphans = [name for name in names if name.partition(".")[0] not in kept]
        return sum(map(self.remove, orphans))


class TrialDirectory:
    """The folder of one run of a trial.

    Attributes:
        had_files: whether `create` found files of an earlier worker.
    """

    def __init__(self, directories: TrialDirectories, name: str) -> None:
        self._directories, self._name = directories, name
        self.had_files = False

    def create(self) -> Path | None:
        """Return the folder, and create it if it is missing; None if that is not possible."""
        path = self._directories.create(self._name)
        self.had_files = path is not None and next(path.iterdir(), None) is not None
        return path

    def remove(self) -> bool:
        """Remove the folder with all its files, if it exists; return False if that failed."""
        return self._directories.remove(self._name)


def _unfinished(connection: Connection) -> set[tuple[int, int]]:
    """Return the study and the number of the first row of each trial that has not ended."""
    before = {}
    for study, number, text in connection.execute(_RETRIES):
        with suppress(ValueError, TypeError):  # a damaged database may hold any text
            before[study, number] = (study, int(text))
    found = set()
    for study, number in connection.execute(_UNFINISHED):
        row = (study, number)
        # A retry has a larger number than the row before it.
        while row in before and before[row] < row:
            row = before[row]
        found.add(row)
    return found


def _hash(parts: list[object]) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()
