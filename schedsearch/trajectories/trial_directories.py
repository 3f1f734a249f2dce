"""The folders of runs, in which training loops and frameworks keep their own checkpoints.

The folder of a run is a subfolder of the database's folder of checkpoints. Its name has two hashes:
one of the trial, which all its retries share, and one of everything that determines the training.
So the next worker of a lost trial finds the files, and nothing else ever does. The name ends with
the attempt, the row of the trial: a worker that is only suspended may write on, but not to the
files of the worker that took its trial over.

An attempt takes over the files of the one before it: it renames their folder (NUMBER.old.run), so
that the earlier worker finds no file of it any more, copies it, so that open files are not shared,
and gives the copy its name when that is complete (NUMBER.new.run until then). After a crash in
between, the next attempt finds the renamed folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
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
_NUMBER = re.compile(r"\.([0-9]{1,12})(?:\.old|\.new)?\.run$")
_ATTEMPT = re.compile(r"\.([0-9]+)\.run$")
_RENAMED = re.compile(r"\.([0-9]+)\.old\.run$")
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
        budget: the bytes of all checkpoints, which the files of runs should not exceed.
        say: called once if a folder cannot be created, and once if the files exceed the budget.
    """

    def __init__(
        self, database: Database, folder: DatabaseFolder, budget: int, say: Callable[[str], None]
    ) -> None:
        self._database, self._folder, self._say = database, folder, say
        self._budget = budget
        self._has_failed = self._is_over_budget = False

    def of_run(
        self, study_id: int, number: int, root: str, plan: Plan, attempt: int = 0
    ) -> TrialDirectory:
        """Return the folder of one run of a trial, which may not exist.

        Args:
            study_id: the id of the study.
            number: of the first row of the trial: a retry has another number.
            root: of the task, the seed, the numerics and the horizon; see `root_hash`.
            plan: of the trial.
            attempt: the number of the row that is trained now.
        """
        training = _hash([root, plan.to_tables()])
        return TrialDirectory(self, f"{_hash([study_id, number])}.{training}", attempt)

    def create(self, run: str, attempt: int, *, takes_over: bool) -> Path | None:
        """Return the folder of an attempt, and create it if it is missing; None if that fails.

        Args:
            run: the two hashes.
            attempt: its number.
            takes_over: whether a new folder has the files of the attempt before.
        """
        own = f"{run}.{attempt}.run"
        try:
            if takes_over and own not in (present := self._folder.subfolders_of(f"{run}.")):
                self._take_over(present, run, attempt)
            path = self._folder.make_subfolder(own)
            self._check_budget()
            return path
        except (InputError, OSError) as error:
            if not self._has_failed:
                self._has_failed = True
                reason = error if isinstance(error, InputError) else summarize_exception(error)
                self._say(
                    f"warning: run.directory is temporary, so a lost trial begins again: {reason}"
                )
            return None

    def _take_over(self, present: Sequence[str], run: str, attempt: int) -> None:
        """Make a folder with copies of the files of the attempt before, if it has left some."""
        numbers = [int(match[1]) for name in present if (match := _NUMBER.search(name))]
        if any(number > attempt for number in numbers):
            return  # this worker was suspended, and another one has taken the trial over
        attempts = {int(match[1]): name for name in present if (match := _ATTEMPT.search(name))}
        renamed = {int(match[1]): name for name in present if (match := _RENAMED.search(name))}
        before, old = None, None
        if attempts:
            before = attempts[last := max(attempts)]
            old = f"{run}.{last}.old.run"
        elif renamed:
            old = renamed[max(renamed)]
        elif f"{run}.run" in present:  # of an earlier version
            before, old = f"{run}.run", f"{run}.0.old.run"
        if old is None:
            return
        new = f"{run}.{attempt}.new.run"
        try:
            self._folder.remove_subfolder(new)
            if before is not None:
                self._folder.remove_subfolder(old)
                self._folder.rename_subfolder(before, old)
            self._folder.copy_subfolder(old, new)
            self._folder.rename_subfolder(new, f"{run}.{attempt}.run")
        except OSError as error:
            self._say(
                "warning: a trial begins again, since the files that an earlier worker left in "
                f"run.directory cannot be copied: {summarize_exception(error)}"
            )
        for name in present:
            self.remove(name)
        self.remove(old)
        self.remove(new)

    def _check_budget(self) -> None:
        if not self._is_over_budget and (taken := self._folder.subfolder_bytes()) > self._budget:
            self._is_over_budget = True
            self._say(
                f"warning: the files in run.directory take {taken} bytes, more than the "
                f"{self._budget} of all checkpoints: keep fewer, by save_top_k or save_total_limit "
                "in the frameworks, or set SCHEDSEARCH_CHECKPOINT_BUDGET"
            )

    def remove_run(self, run: str) -> bool:
        """Remove the folders of all attempts; return False if that failed: they are swept later."""
        try:
            names = self._folder.subfolders_of(f"{run}.")
        except (InputError, OSError):
            return False
        removed = [self.remove(name) for name in names]  # all of them, also after a failure
        return all(removed)

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

    def __init__(self, directories: TrialDirectories, run: str, attempt: int) -> None:
        self._directories, self._run, self._attempt = directories, run, attempt
        self._is_created = False
        self.had_files = False

    def create(self) -> Path | None:
        """Return the folder, and create it if it is missing; None if that is not possible.

        At the first time it has the files of the attempt before.
        """
        takes_over = not self._is_created
        path = self._directories.create(self._run, self._attempt, takes_over=takes_over)
        self._is_created = True
        self.had_files = path is not None and next(path.iterdir(), None) is not None
        return path

    def remove(self) -> bool:
        """Remove the folders of all attempts with all files; return False if that failed."""
        return self._directories.remove_run(self._run)


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
