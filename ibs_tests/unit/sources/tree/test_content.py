"""Reading files: never through a link, never blocked, holes known, changes noticed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ibs.sources.tree import content
from ibs.sources.tree.content import FileAccess, clip_ranges, data_ranges, held_still, is_sparse


@pytest.fixture
def files() -> FileAccess:
    return FileAccess()


def opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY)


def test_a_file_is_opened_and_read_in_pieces(files: FileAccess, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    folder = opened(tmp_path)
    fd = files.open(folder, b"f", os.geteuid())
    buffer = bytearray(8)
    assert files.read(fd, memoryview(buffer)[:4], 2) == 4
    assert buffer[:4] == b"2345"
    assert files.read(fd, memoryview(buffer), 6) == 4
    assert files.read(fd, memoryview(buffer), 99) == 0
    assert files.stat(fd).st_size == 10
    files.close(fd)
    os.close(folder)


def test_short_reads_are_completed(files: FileAccess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, offset: real(fd, [views[0][:3]], offset))
    fd = opened(tmp_path / "f")
    buffer = bytearray(12)
    assert files.read(fd, memoryview(buffer), 0) == 10
    assert buffer == b"0123456789\0\0"
    os.close(fd)


def test_links_and_fifos_do_not_lead_anywhere(files: FileAccess, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    folder = opened(tmp_path)
    with pytest.raises(OSError, match="symbolic links"):
        files.open(folder, b"link", os.geteuid())
    files.close(files.open(folder, b"fifo", os.geteuid()))  # returns at once although nobody writes
    os.close(folder)


def test_atime_is_left_alone_where_that_is_allowed(
    files: FileAccess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(b"x")
    folder = opened(tmp_path)
    flags: list[int] = []
    real = os.open

    def refuse(name: bytes, flag: int, *, dir_fd: int) -> int:
        flags.append(flag & os.O_NOATIME)
        if flag & os.O_NOATIME:
            raise PermissionError(errno.EPERM, "refused")
        return real(name, flag, dir_fd=dir_fd)

    monkeypatch.setattr(content.os, "open", refuse)
    os.close(files.open(folder, b"f", os.geteuid()))
    assert flags == [os.O_NOATIME, 0]
    os.close(folder)


def test_holes_are_found(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(10 << 20)
        for offset in (1 << 20, 5 << 20):
            file.seek(offset)
            file.write(b"x" * 4096)
    fd = opened(path)
    assert is_sparse(os.fstat(fd))
    assert data_ranges(fd, 10 << 20) == ((1 << 20, 4096), (5 << 20, 4096))
    assert data_ranges(fd, (5 << 20) + 100) == ((1 << 20, 4096), (5 << 20, 100))
    assert data_ranges(fd, 10 << 20, probes_max=1) == ((1 << 20, 4096), (5 << 20, 5 << 20))
    os.close(fd)


def test_all_hole_no_hole_and_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hole").touch()
    os.truncate(tmp_path / "hole", 1 << 20)
    (tmp_path / "full").write_bytes(b"x" * 9000)
    hole, full = opened(tmp_path / "hole"), opened(tmp_path / "full")
    assert data_ranges(hole, 1 << 20) == ()
    assert data_ranges(full, 9000) == ((0, 9000),)
    assert not is_sparse(os.fstat(full))

    def cannot(*_: object) -> int:
        raise OSError(errno.EINVAL, "no such thing here")

    monkeypatch.setattr(os, "lseek", cannot)
    assert data_ranges(hole, 1 << 20) == ((0, 1 << 20),)
    os.close(hole)
    os.close(full)


def test_changes_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    before = path.stat()
    assert held_still(before, path.stat())
    os.utime(path, ns=(1, 1))
    assert not held_still(before, path.stat())


def test_ranges_are_clipped_to_what_was_read() -> None:
    ranges = ((0, 10), (20, 10), (40, 10))
    assert clip_ranges(ranges, 30) == ranges
    assert clip_ranges(ranges, 15) == ((0, 10), (20, 5))
    assert clip_ranges(ranges, 10) == ((0, 10),)
    assert clip_ranges(ranges, 0) == ()
