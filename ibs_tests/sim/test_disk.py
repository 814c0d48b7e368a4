"""The simulated disk forgets exactly what was not flushed."""

from __future__ import annotations

import errno
import os
from random import Random

import pytest

from ibs_tests.sim.disk import Disk, File, Folder
from ibs_tests.sim.face import SimOs

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL


def machine(seed: int, *, journalled: bool, capacity: int = 1 << 20) -> tuple[Disk, SimOs, int]:
    """A disk with one durable folder, and its descriptor."""
    disk = Disk(Random(seed), capacity=capacity, journalled=journalled)
    face = SimOs(disk, "/m", lambda call, name: None)
    root = face.open("/m", os.O_RDONLY | os.O_DIRECTORY)
    face.mkdir("folder", dir_fd=root)
    disk.flush_all()
    return disk, face, face.open("/m/folder", os.O_RDONLY)


def write(face: SimOs, fd: int, name: str, data: bytes, *, flush: bool) -> None:
    file = face.open(name, NEW, dir_fd=fd)
    face.write(file, data)
    if flush:
        face.fsync(file)
    face.close(file)


def content(disk: Disk, path: str) -> bytes | None:
    node = disk.look(path)
    return bytes(node.data) if isinstance(node, File) else None


@pytest.mark.parametrize("journalled", [True, False])
def test_what_was_flushed_stays(journalled: bool) -> None:
    for seed in range(50):
        disk, face, fd = machine(seed, journalled=journalled)
        write(face, fd, "temporary", b"x" * 300, flush=True)
        face.rename("temporary", "kept", src_dir_fd=fd, dst_dir_fd=fd)
        face.fsync(fd)
        disk.cut_power()
        assert content(disk, "folder/kept") == b"x" * 300
        assert content(disk, "folder/temporary") is None


@pytest.mark.parametrize("journalled", [True, False])
def test_what_was_not_may_be_lost_torn_or_there(journalled: bool) -> None:
    seen = set()
    for seed in range(300):
        disk, face, fd = machine(seed, journalled=journalled)
        write(face, fd, "file", b"x" * 300, flush=False)
        disk.cut_power()
        seen.add(content(disk, "folder/file"))
    assert {None, b"", b"x" * 300} <= seen
    assert any(data and 0 < len(data) < 300 for data in seen)
    assert any(data and len(data) == 300 and b"\0" in data for data in seen)


def test_a_journal_keeps_names_in_their_order_and_a_loose_disk_does_not() -> None:
    def seen(*, journalled: bool) -> set[tuple[bool, bool]]:
        found = set()
        for seed in range(200):
            disk, face, fd = machine(seed, journalled=journalled)
            write(face, fd, "first", b"1", flush=True)
            write(face, fd, "second", b"2", flush=False)
            disk.cut_power()
            folder = disk.look("folder")
            assert isinstance(folder, Folder)
            found.add(("first" in folder.entries, "second" in folder.entries))
        return found

    assert (False, True) not in seen(journalled=True)
    assert (False, True) in seen(journalled=False)


def test_a_rename_is_never_half() -> None:
    for seed in range(200):
        disk, face, fd = machine(seed, journalled=False)
        face.mkdir("other", dir_fd=fd)
        write(face, fd, "file", b"x", flush=True)
        disk.flush_all()
        face.rename("file", "other/file", src_dir_fd=fd, dst_dir_fd=fd)
        disk.cut_power()
        assert (content(disk, "folder/file") is None) != (content(disk, "folder/other/file") is None)


def test_a_failed_flush_says_so_once_and_loses_pages() -> None:
    disk, face, fd = machine(1, journalled=True)
    write(face, fd, "file", b"x" * 300, flush=False)
    disk.flush_fails = 1
    with pytest.raises(OSError, match="Input/output") as failed:
        face.syncfs(fd)
    assert failed.value.errno == errno.EIO
    face.syncfs(fd)
    assert content(disk, "folder/file") == b"x" * 300
    node = disk.look("folder/file")
    assert isinstance(node, File)
    disk.drop_cache(node)
    assert content(disk, "folder/file") == b""


def test_a_full_disk_refuses_and_deleting_makes_room() -> None:
    disk, face, fd = machine(1, journalled=True, capacity=2000)
    write(face, fd, "file", b"x" * 500, flush=False)
    with pytest.raises(OSError, match="No space") as full:
        write(face, fd, "more", b"x" * 1000, flush=False)
    assert full.value.errno == errno.ENOSPC
    free = disk.free
    face.unlink("file", dir_fd=fd)
    assert disk.free > free
    face.unlink("more", dir_fd=fd)
    write(face, fd, "again", b"x" * 1000, flush=False)


def test_descriptors_are_not_used_after_their_end() -> None:
    _, face, fd = machine(1, journalled=True)
    face.close(fd)
    with pytest.raises(OSError, match="Bad file"):
        face.fsync(fd)
    with pytest.raises(AttributeError):
        face.symlink("a", "b")  # type: ignore[attr-defined]


def test_room_is_counted_right_after_a_power_cut() -> None:
    for seed in range(50):
        disk, face, fd = machine(seed, journalled=False)
        for number in range(5):
            write(face, fd, f"f{number}", b"x" * 100, flush=False)
        face.link("f1", "again", src_dir_fd=fd, dst_dir_fd=fd)
        face.unlink("f2", dir_fd=fd)
        disk.cut_power()
        folder = disk.look("folder")
        assert isinstance(folder, Folder)
        files = {node for node in folder.entries.values() if isinstance(node, File)}
        assert disk.used == 256 * (1 + len(files)) + sum(file.size for file in files)
