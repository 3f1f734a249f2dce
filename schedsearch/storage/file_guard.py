"""A guard of the file of a SQLite database: writes to a deleted file would be lost silently."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from sqlalchemy import Connection, Engine, event

from schedsearch.errors import DatabaseFileLostError


@dataclass(frozen=True)
class FileGuard:
    """Checks that a path is still the file that was opened.

    Attributes:
        path: the absolute path of the file.
        identity: the device and the inode of the file.
    """

    path: Path
    identity: tuple[int, int]

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the guard of a file that is open."""
        status = path.stat()
        return cls(path, (status.st_dev, status.st_ino))

    def check(self) -> None:
        """Check the file; it takes microseconds.

        Raises:
            DatabaseFileLostError: the path is another file, or none.
        """
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            lost = True
        except OSError:
            return  # a file that cannot be examined may be the same
        else:
            lost = (status.st_dev, status.st_ino) != self.identity
        if lost:
            raise DatabaseFileLostError(
                f"{self.path}: the database file was deleted, moved or replaced while it was in "
                "use: stopped; put the file back and start again: results since then are lost"
            )

    def watch(self, engine: Engine) -> None:
        """Check the file before each connection, transaction and commit of an engine."""
        event.listen(engine, "do_connect", self._connect)
        for name in ("begin", "commit"):
            event.listen(engine, name, self._check_transaction)

    def _check_transaction(self, connection: Connection) -> None:
        try:
            self.check()
        except DatabaseFileLostError:
            # Another listener began the transaction already.
            connection.connection.rollback()
            raise

    def _connect(
        self, dialect: object, record: object, arguments: list[str], options: dict[str, object]
    ) -> None:
        """Let SQLite open the existing file: by default it would create a missing one."""
        self.check()
        arguments[0], options["uri"] = f"file:{quote(str(self.path))}?mode=rw", True
