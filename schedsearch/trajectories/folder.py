"""A folder as an artifact store: Optuna's protocol, and a list of old files for cleaning up."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from optuna.artifacts.exceptions import ArtifactNotFound

#: Suffix of a file that is being written.
_PART = ".part"


class Folder:
    """Stores each artifact in a file of a folder, which is created with the first file.

    Writes are atomic. They are not flushed to the disk (no fsync): the reader of a checkpoint
    verifies its hash, so a file that a power failure damaged costs some epochs, and never gives a
    wrong result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact; raise ArtifactNotFound if there is none."""
        try:
            return (self.path / artifact_id).open("rb")
        except FileNotFoundError:
            raise ArtifactNotFound(artifact_id) from None

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write an artifact atomically."""
        self.path.mkdir(parents=True, exist_ok=True)
        part = self.path / f"{artifact_id}.{secrets.token_hex(4)}{_PART}"
        try:
            with part.open("xb") as file:
                shutil.copyfileobj(content_body, file)
            part.replace(self.path / artifact_id)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact; raise ArtifactNotFound if there is none."""
        try:
            (self.path / artifact_id).unlink()
        except FileNotFoundError:
            raise ArtifactNotFound(artifact_id) from None

    def older_than(self, seconds: float) -> Iterator[str]:
        """Yield the names of files, partial ones included, last written at least `seconds` ago."""
        if not self.path.is_dir():
            return
        latest = time.time() - seconds
        for file in self.path.iterdir():
            try:
                if file.stat().st_mtime <= latest:
                    yield file.name
            except FileNotFoundError:
                continue
