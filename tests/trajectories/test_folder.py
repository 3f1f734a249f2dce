"""A folder touches only regular files with names of its pattern, inside itself."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest
from optuna.artifacts.exceptions import ArtifactNotFound

from schedsearch.errors import InputError
from schedsearch.trajectories import Folder
from schedsearch.trajectories.folder import PICTURE_NAMES, is_checkpoint_name

NAME = f"{'ab' * 16}.01234567.safetensors"
HOSTILE = [
    "",
    ".",
    "..",
    "../victim",
    "/etc/hostname",
    f"../{NAME}",
    f"./{NAME}",
    f"sub/{NAME}",
    f"{NAME}/../../victim",
    f"{NAME}\n",
    f"{NAME}\0",
    f"\0{NAME}",
    NAME.upper(),
    NAME.replace("0", "\u0660"),  # an Arabic zero
    NAME.replace("a", "\u0430"),  # a Cyrillic a
    NAME.replace(".", "\uff0e"),
    "a" * 5000,
    f"{'a' * 4096}.01234567.safetensors",
    f"{NAME}.part",
    "studies.db",
    None,
    7,
    b"../victim",
    ["../victim"],
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / NAME).write_text("precious")
    inside = tmp_path / "checkpoints"
    (inside / "sub").mkdir(parents=True)
    for other in (inside / "studies.db", inside / "sub" / NAME):
        other.write_text("precious")
    return inside


def everything(place: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in place.parent.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name)[:40])
@pytest.mark.parametrize("names", [None, PICTURE_NAMES], ids=["checkpoints", "pictures"])
def test_a_name_of_another_pattern_does_not_exist(place, name, names):
    folder = Folder(place) if names is None else Folder(place, names)
    before = everything(place)
    for work in (folder.remove, folder.open_reader):
        with pytest.raises(ArtifactNotFound):
            work(name)
    assert everything(place) == before
    assert not is_checkpoint_name(name)


@pytest.mark.parametrize("name", [name for name in HOSTILE if isinstance(name, str)], ids=ascii)
def test_a_name_of_another_pattern_is_not_written(place, name):
    before = everything(place)
    with pytest.raises(ValueError, match="is not a name of a file in"):
        Folder(place).write(name, io.BytesIO(b"x"))
    assert everything(place) == before


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    path.symlink_to(path.parents[1] / "victim")


def make_hanging_link(path: Path) -> None:
    path.symlink_to(path.parents[1] / "nothing")


def make_device_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "make", [make_pipe, make_link, make_hanging_link, make_device_link, Path.mkdir]
)
def test_what_is_not_a_regular_file_is_neither_opened_nor_removed_nor_listed(place, make):
    make(place / NAME)
    folder = Folder(place)
    for work in (folder.remove, folder.open_reader):
        with pytest.raises(OSError, match="is not a regular file"):
            work(NAME)
    assert not {*folder.names(), *folder.older_than(-60)}
    assert (place / NAME).is_symlink() or (place / NAME).exists()
    assert (place.parent / "victim").read_text() == "precious"


def test_a_link_in_place_of_a_file_is_replaced_not_followed(place):
    make_link(place / NAME)
    Folder(place).write(NAME, io.BytesIO(b"new"))
    assert (place / NAME).read_bytes() == b"new"
    assert not (place / NAME).is_symlink()
    assert (place.parent / "victim").read_text() == "precious"


def assert_refused(folder: Folder, reason: str) -> None:
    for work in (
        lambda: folder.open_reader(NAME),
        lambda: folder.remove(NAME),
        lambda: folder.write(NAME, io.BytesIO(b"x")),
        lambda: list(folder.older_than(-60)),
        folder.check,
    ):
        with pytest.raises(InputError, match=reason) as raised:
            work()
        assert "\n" not in str(raised.value)


def test_a_folder_that_is_a_link_is_refused(place):
    (place / NAME).write_text("precious")
    link = place.with_name("link")
    link.symlink_to(place)
    before = everything(place)
    assert_refused(Folder(link), "link: is a link, so no file is read or written there")
    assert everything(place) == before


def test_a_folder_of_another_user_is_refused(place, monkeypatch):
    (place / NAME).write_text("precious")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert_refused(Folder(place), "belongs to another user")
    assert (place / NAME).read_text() == "precious"


def test_a_parent_of_the_folder_may_be_a_link(place):
    link = place.parent / "disk"
    link.symlink_to(place.parent)
    folder = Folder(link / "checkpoints")
    folder.write(NAME, io.BytesIO(b"new"))
    with folder.open_reader(NAME) as file:
        assert file.read() == b"new"
    folder.remove(NAME)
    assert not (place / NAME).exists()


def test_only_files_of_the_pattern_are_listed_with_partial_ones(place):
    folder = Folder(place)
    folder.write(NAME, io.BytesIO(b""))
    part = f"{NAME}.89abcdef.part"
    for name in (part, "notes.txt", "x.part", f"{NAME}.part"):
        (place / name).touch()
    assert set(folder.older_than(-60)) == {NAME, part}
    assert set(folder.names()) == {NAME}
    folder.remove(part)
    assert not (place / part).exists()


def test_a_file_that_is_created_appears_complete_or_not_at_all(tmp_path, monkeypatch):
    folder = Folder(tmp_path, "record")

    def fail(*_: object, **__: object) -> None:
        raise OSError("killed before the file has its name")

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", fail)
        with pytest.raises(OSError, match="killed"):
            folder.create("record", b"first")
    assert list(tmp_path.iterdir()) == []
    assert folder.create("record", b"second")
    assert not folder.create("record", b"third")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [
        ("record", b"second")
    ]


def test_a_file_is_created_on_a_file_system_without_links(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    folder = Folder(tmp_path, "record")
    assert folder.create("record", b"first")
    assert not folder.create("record", b"second")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("record", b"first")]
