"""A folder as an artifact store: only files with names of a pattern, and never through a link.

The names come from a database, and the folder may have been unpacked from an archive of another
person. So this module alone opens, writes and removes files of checkpoints and pictures.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from optuna.artifacts.exceptions import ArtifactNotFound

from schedsearch.errors import InputError

#: The names of checkpoints: the hash of the node, and a random number.
CHECKPOINT_NAMES = r"[0-9a-f]{32}\.[0-9a-f]{8}\.safetensors"
#: The names of subfolders for files of training loops: two hashes, and the attempt to train; see
#: `TrialDirectories`. An earlier version had no attempts.
SUBFOLDER_NAMES = r"[0-9a-f]{16}\.[0-9a-f]{16}(?:\.[0-9]{1,12}(?:\.old|\.new)?)?\.run"
#: The names of pictures: a random UUID, as optuna-dashboard names the files of its users.
PICTURE_NAMES = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#: The end of the name of a file that is being written.
_PART = r"\.[0-9a-f]{8}\.part"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: O_NONBLOCK: a pipe that takes the place of a file after it was checked must not block.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def is_checkpoint_name(value: object) -> bool:
    """Return whether a value that a database holds is the name of a checkpoint's file.

    >>> is_checkpoint_name("0123456789abcdef0123456789abcdef.01234567.safetensors")
    True
    >>> is_checkpoint_name("../0123456789abcdef0123456789abcdef.01234567.safetensors")
    False
    """
    return isinstance(value, str) and re.fullmatch(CHECKPOINT_NAMES, value) is not None


class Folder:
    """Stores each artifact in a file of a folder, which is created with the first file.

    An artifact whose name does not match the pattern does not exist, and neither does one that is
    a link, a pipe, a device or a folder. A folder that is a link, or that belongs to another user,
    is refused.

    Writes are atomic. They are not flushed to the disk (no fsync): the reader of a checkpoint
    verifies its hash, so a file that a power failure damaged costs some epochs, and never gives a
    wrong result.

    Args:
        path: the folder.
        names: a regular expression; only files whose whole name matches it are touched.
    """

    def __init__(self, path: Path, names: str = CHECKPOINT_NAMES) -> None:
        self.path = path
        self._names = re.compile(names)
        self._parts = re.compile(f"(?:{names}){_PART}")

    def check(self) -> None:
        """Raise InputError if the folder is a link or belongs to another user."""
        with suppress(FileNotFoundError), self._open():
            pass

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact; raise ArtifactNotFound if there is none."""
        with self._lookup(artifact_id) as (folder, name):
            _require_file(name, os.stat(name, dir_fd=folder, follow_symlinks=False))
            file = os.fdopen(os.open(name, _READ, dir_fd=folder), "rb")
            try:
                _require_file(name, os.fstat(file.fileno()))
            except BaseException:
                file.close()
                raise
            return file

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write an artifact atomically.

        Raises:
            InputError: the folder is refused.
            ValueError: the name does not match the pattern.
        """
        name = self._checked(artifact_id)
        part = f"{name}.{secrets.token_hex(4)}.part"
        with self._create() as folder:
            try:
                with os.fdopen(os.open(part, _CREATE, 0o666, dir_fd=folder), "wb") as file:
                    shutil.copyfileobj(content_body, file)
                os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(part, dir_fd=folder)
                raise

    def create(self, artifact_id: str, content: bytes) -> bool:
        """Write an artifact that does not exist, atomically; return False if it exists."""
        name = self._checked(artifact_id)
        part = f"{name}.{secrets.token_hex(4)}.part"
        with self._create() as folder:
            try:
                with os.fdopen(os.open(part, _CREATE, 0o666, dir_fd=folder), "wb") as file:
                    file.write(content)
                # Unlike a renaming, a link never replaces a file.
                _link(part, name, folder)
            except FileExistsError:
                return False
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(part, dir_fd=folder)
        return True

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact; raise ArtifactNotFound if there is none."""
        with self._lookup(artifact_id, parts=True) as (folder, name):
            _require_file(name, os.stat(name, dir_fd=folder, follow_symlinks=False))
            os.unlink(name, dir_fd=folder)

    # --- subfolders ------------------------------------------------------------------------------

    def make_subfolder(self, name: str) -> Path:
        """Return a subfolder, which only this user can read; it is created if it is missing.

        Raises:
            InputError: the folder is refused, or the subfolder is a link or of another user.
            ValueError: the name is none of a subfolder.
        """
        self._check_subfolder_names(name)
        with self._create() as folder:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=folder)
            try:
                found = os.open(name, _FOLDER, dir_fd=folder)
            except OSError:
                raise _refused(self.path / name, "is a link or a file") from None
            try:
                if os.fstat(found).st_uid != os.geteuid():
                    raise _refused(self.path / name, "belongs to another user")
            finally:
                os.close(found)
        return self.path.absolute() / name

    def remove_subfolder(self, name: str) -> None:
        """Remove a subfolder with all its files, if it exists; links in it are not followed."""
        if re.fullmatch(SUBFOLDER_NAMES, name):
            with suppress(FileNotFoundError), self._open() as folder:
                shutil.rmtree(name, dir_fd=folder)

    def subfolders_of(self, prefix: str) -> list[str]:
        """Return the names of the subfolders that begin with a prefix."""
        return [name for name, _ in self._subfolders() if name.startswith(prefix)]

    def rename_subfolder(self, name: str, new: str) -> None:
        """Rename a subfolder to a name that no subfolder has.

        Raises:
            OSError: that is not possible.
            ValueError: a name is none of a subfolder.
        """
        self._check_subfolder_names(name, new)
        with self._open() as folder:
            os.rename(name, new, src_dir_fd=folder, dst_dir_fd=folder)

    def copy_subfolder(self, name: str, new: str) -> None:
        """Copy a subfolder with all its files; links are copied as links.

        Raises:
            OSError: that is not possible.
            ValueError: a name is none of a subfolder.
        """
        self._check_subfolder_names(name, new)
        shutil.copytree(self.path / name, self.path / new, symlinks=True)

    def _check_subfolder_names(self, *names: str) -> None:
        for name in names:
            if not re.fullmatch(SUBFOLDER_NAMES, name):
                raise ValueError(f"{name!a} is not a name of a subfolder of {self.path}")

    def subfolders_older_than(self, seconds: float) -> Iterator[str]:
        """Yield the names of subfolders whose entries last changed at least `seconds` ago."""
        latest = time.time() - seconds
        return (name for name, changed in self._subfolders() if changed <= latest)

    def subfolder_bytes(self) -> int:
        """Return the bytes of all files in all subfolders."""
        total = 0
        with suppress(FileNotFoundError), self._open() as folder:
            for name, _ in list(self._subfolders()):
                with suppress(FileNotFoundError):  # another process removes it now
                    for _, _, files, inner in os.fwalk(name, dir_fd=folder):
                        total += sum(_file_size(file, inner) for file in files)
        return total

    def _subfolders(self) -> Iterator[tuple[str, float]]:
        with suppress(FileNotFoundError), self._open() as folder, os.scandir(folder) as entries:
            for entry in entries:
                if re.fullmatch(SUBFOLDER_NAMES, entry.name):
                    with suppress(FileNotFoundError):
                        found = entry.stat(follow_symlinks=False)
                        if stat.S_ISDIR(found.st_mode):
                            yield entry.name, found.st_mtime

    # ---------------------------------------------------------------------------------------------

    def names(self) -> Iterator[str]:
        """Yield the names of all artifacts."""
        return (name for name, _ in self._files() if self._names.fullmatch(name))

    def older_than(self, seconds: float) -> Iterator[str]:
        """Yield the names of files, partial ones included, last written at least `seconds` ago."""
        latest = time.time() - seconds
        return (name for name, written in self._files() if written <= latest)

    def _files(self) -> Iterator[tuple[str, float]]:
        """Yield the names of artifacts and of partial files, and when they were last written."""
        with suppress(FileNotFoundError), self._open() as folder, os.scandir(folder) as entries:
            for entry in entries:
                if self._names.fullmatch(entry.name) or self._parts.fullmatch(entry.name):
                    with suppress(FileNotFoundError):
                        found = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(found.st_mode):
                            yield entry.name, found.st_mtime

    def _checked(self, artifact_id: str) -> str:
        if not self._names.fullmatch(artifact_id):
            raise ValueError(f"{artifact_id!a} is not a name of a file in {self.path}")
        return artifact_id

    @contextmanager
    def _lookup(self, artifact_id: object, *, parts: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder for one of its files; raise ArtifactNotFound if there is none."""
        name = artifact_id if isinstance(artifact_id, str) else ""
        if not (self._names.fullmatch(name) or (parts and self._parts.fullmatch(name))):
            raise ArtifactNotFound(ascii(artifact_id))
        try:
            with self._open() as folder:
                yield folder, name
        except FileNotFoundError:
            raise ArtifactNotFound(name) from None

    @contextmanager
    def _create(self) -> Iterator[int]:
        self.path.mkdir(parents=True, exist_ok=True)
        with self._open() as folder:
            yield folder

    @contextmanager
    def _open(self) -> Iterator[int]:
        """Open the folder itself, so that no link can take its place before the next step."""
        try:
            folder = os.open(self.path, _FOLDER)
        except OSError:
            if self.path.is_symlink():
                raise _refused(self.path, "is a link") from None
            raise
        try:
            if os.fstat(folder).st_uid != os.geteuid():
                raise _refused(self.path, "belongs to another user")
            yield folder
        finally:
            os.close(folder)


def _link(part: str, name: str, folder: int) -> None:
    """Give a partial file its name; raise FileExistsError if another file has it."""
    try:
        os.link(part, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        # A file system without links: the name is reserved first.
        os.close(os.open(name, _CREATE, 0o666, dir_fd=folder))
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)


def _refused(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path}: {reason}, so no file is read or written there: name the folder for files in "
        "SCHEDSEARCH_CHECKPOINTS"
    )


def _file_size(name: str, folder: int) -> int:
    """Return the bytes of a regular file; 0 for anything else, and if it does not exist."""
    with suppress(FileNotFoundError):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return found.st_size if stat.S_ISREG(found.st_mode) else 0
    return 0


def _require_file(name: str, found: Any) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{name} is not a regular file")
