"""A folder of artifacts: Optuna's protocol of an artifact store, and what a sweep needs."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from optuna.artifacts.exceptions import ArtifactNotFound

#: What a file is called while it is written.
_PART = ".part"


class Folder:
    """Keeps each artifact in a file of a folder, which is made with the first one.

    A file appears whole or not at all. It is not forced to the disk: whoever reads a checkpoint
    compares its hash, so what a power cut takes is noticed, and costs some epochs, not a wrong
    result.
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
        """Write an artifact, whole or not at all."""
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
        """Yield the names of the files, finished or not, that were last written so long ago."""
        if not self.path.is_dir():
            return
        latest = time.time() - seconds
        for file in self.path.iterdir():
            try:
                if file.stat().st_mtime <= latest:
                    yield file.name
            except FileNotFoundError:
                continue
