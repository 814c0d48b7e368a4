from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.errors import FormatError
from ibs.storage.local import files


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    held = files.open_dir(str(tmp_path))
    yield held
    os.close(held)


def test_links_are_never_followed(tmp_path: Path, fd: int) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "filelink").symlink_to("real/file")
    with pytest.raises(OSError, match=r"Not a directory|Too many"):
        files.open_dirs(["link"], dir_fd=fd)
    with pytest.raises(OSError, match="Too many"):
        files.read_file("filelink", dir_fd=fd, limit=10)
    assert files.folders(fd) == ["real"]


def test_replace_is_whole_and_leaves_no_litter(tmp_path: Path, fd: int) -> None:
    files.replace("a", b"one", dir_fd=fd)
    files.replace("a", b"two", dir_fd=fd)
    assert (tmp_path / "a").read_bytes() == b"two"
    assert files.names(fd) == ["a"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    (tmp_path / "dir").mkdir()
    with pytest.raises(OSError, match="directory"):
        files.replace("dir", b"x", dir_fd=fd)
    assert files.names(fd) == ["a", "dir"]


def test_a_new_file_that_cannot_be_filled_is_not_left(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="full"):
        files.write_new("a", b"data", dir_fd=fd, durable=False)
    assert files.names(fd) == []


def test_short_writes_and_reads_are_continued(tmp_path: Path, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write, pread = os.write, os.pread
    monkeypatch.setattr(os, "write", lambda f, data: write(f, bytes(data)[:3]))
    monkeypatch.setattr(os, "pread", lambda f, size, at: pread(f, min(size, 4), at))
    files.write_new("a", b"0123456789", dir_fd=fd, durable=True)
    assert files.read_file("a", dir_fd=fd, limit=10) == b"0123456789"


def test_reading_is_bounded_and_wants_a_regular_file(tmp_path: Path, fd: int) -> None:
    (tmp_path / "big").write_bytes(b"12345")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FormatError, match="5 bytes"):
        files.read_file("big", dir_fd=fd, limit=4)
    with pytest.raises(FormatError, match="not a regular file"):
        files.read_file("fifo", dir_fd=fd, limit=4)


def test_folders_are_made_once_and_private(tmp_path: Path, fd: int) -> None:
    assert files.make_dir("d", dir_fd=fd)
    assert not files.make_dir("d", dir_fd=fd)
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700


def test_removing_a_folder_removes_its_files_but_not_folders_in_it(tmp_path: Path, fd: int) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"")
    files.remove_dir("d", dir_fd=fd)
    files.remove_dir("d", dir_fd=fd)
    assert files.names(fd) == []
    (tmp_path / "e" / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match="not empty"):
        files.remove_dir("e", dir_fd=fd)


def test_sizes_and_presence(tmp_path: Path, fd: int) -> None:
    (tmp_path / "f").write_bytes(b"123")
    assert files.size_of("f", dir_fd=fd) == 3
    assert files.size_of("g", dir_fd=fd) is None
    assert files.exists("f", dir_fd=fd)
    files.sync_file("f", dir_fd=fd)
    assert files.unlink_if_there("f", dir_fd=fd)
    assert not files.unlink_if_there("f", dir_fd=fd)
    assert not files.unlink_quietly("f", dir_fd=fd)


def test_no_descriptor_leaks_when_a_level_is_missing(tmp_path: Path, fd: int) -> None:
    (tmp_path / "a").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(FileNotFoundError):
            files.open_dirs(["a", "b"], dir_fd=fd)
    assert len(os.listdir("/proc/self/fd")) == before
