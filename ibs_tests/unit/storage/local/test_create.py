from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ibs.errors import ConflictError, NoSpace, UsageError
from ibs.storage.local import files
from ibs.storage.local.create import create_store
from ibs_tests.support.stores import CREATED, UUID, StoreBox


def make(path: Path) -> None:
    create_store(str(path), "main", UUID, CREATED)


def test_a_new_store_is_private_and_opens(tmp_path: Path) -> None:
    box = StoreBox(tmp_path / "store").create()
    for folder in (".", ".ibs", ".ibs/leases", "chunks", "chunks/incoming", "staging", "ns"):
        assert (box.path / folder).stat().st_mode & 0o777 == 0o700, folder
    assert {p.name for p in (box.path / ".ibs").iterdir() if p.is_file()} == {
        "datastore.json",
        "lock",
        "owner",
        "generation",
        "chunks.db",
    }
    box.open()
    box.close()


def test_an_empty_folder_and_a_fresh_file_system_serve(tmp_path: Path) -> None:
    (tmp_path / "a" / "lost+found").mkdir(parents=True)
    make(tmp_path / "a")
    assert (tmp_path / "a" / ".ibs" / "datastore.json").exists()


def test_a_folder_with_anything_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o755)
    (tmp_path / "a" / "precious").write_text("x")
    with pytest.raises(ConflictError, match="not empty"):
        make(tmp_path / "a")
    assert os.listdir(tmp_path / "a") == ["precious"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755


def test_folders_that_only_look_like_ours_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a" / "chunks").mkdir(parents=True)
    with pytest.raises(ConflictError, match="not empty"):
        make(tmp_path / "a")


def test_an_existing_datastore_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "a")
    with pytest.raises(ConflictError, match="is a datastore already"):
        make(tmp_path / "a")


def test_a_store_made_half_way_can_be_made_again(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a" / ".ibs" / "datastore.json").unlink()
    make(tmp_path / "a")
    StoreBox(tmp_path / "a").open().close()


@pytest.mark.parametrize(
    ("path", "words"),
    [("relative", "not absolute"), ("/nowhere/at/all", "does not exist"), ("/dev/null", "not a folder")],
)
def test_paths_that_cannot_serve(path: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        create_store(path, "main", UUID, CREATED)


def test_a_name_that_is_not_valid_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        create_store(str(tmp_path / "a"), "../x", UUID, CREATED)
    assert not (tmp_path / "a").exists()


def test_a_folder_one_may_not_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(UsageError, match="permission denied"):
        make(tmp_path / "a")


@pytest.mark.parametrize("exists", [True, False])
def test_a_layout_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    if exists:
        (tmp_path / "a").mkdir()
    real = files.replace

    def full(name: str, data: bytes, *, dir_fd: int) -> None:
        if name == "datastore.json":
            raise OSError(errno.ENOSPC, "full")
        real(name, data, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(files, "replace", full)
        with pytest.raises(NoSpace):
            make(tmp_path / "a")
    assert (tmp_path / "a").exists() is exists
    assert not exists or os.listdir(tmp_path / "a") == []
    make(tmp_path / "a")
