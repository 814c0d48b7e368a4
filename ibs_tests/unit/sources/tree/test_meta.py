"""Metadata through descriptors: attributes of everything, file systems by stable names, views of the kernel."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ibs.core import limits
from ibs.core.tree import Kind
from ibs.sources.tree.meta import (
    FORMAT_MASK,
    KIND_OF_FORMAT,
    FileSystems,
    device_number,
    unopened_file_system,
    xattrs_at,
    xattrs_of_fd,
)


def folder_fd(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def test_attributes_are_sorted_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.setxattr(path, "user.b", b"\x00\xff")
    os.setxattr(path, "user.a", b"")
    fd, folder = os.open(path, os.O_RDONLY), folder_fd(tmp_path)
    try:
        assert xattrs_of_fd(fd) == ((b"user.a", b""), (b"user.b", b"\x00\xff"))
        assert xattrs_at(folder, b"file") == xattrs_of_fd(fd)
        assert xattrs_of_fd(folder) == ()
    finally:
        os.close(fd)
        os.close(folder)


def test_links_and_fifos_are_not_followed_nor_opened(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    os.setxattr(target, "user.a", b"of the target")
    (tmp_path / "link").symlink_to("target")
    os.mkfifo(tmp_path / "fifo")
    folder = folder_fd(tmp_path)
    try:
        assert xattrs_at(folder, b"link") == ()
        assert xattrs_at(folder, b"fifo") == ()
    finally:
        os.close(folder)


@pytest.mark.root
def test_attributes_of_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    os.setxattr(tmp_path / "link", "trusted.note", b"x", follow_symlinks=False)
    folder = folder_fd(tmp_path)
    try:
        assert xattrs_at(folder, b"link") == ((b"trusted.note", b"x"),)
    finally:
        os.close(folder)


def test_too_many_bytes_of_attributes_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENTRY_XATTR_BYTES_MAX", 10)
    os.setxattr(tmp_path, "user.long", b"12345678")
    folder = folder_fd(tmp_path)
    try:
        with pytest.raises(OSError, match="exceed 10 bytes"):
            xattrs_of_fd(folder)
    finally:
        os.close(folder)


def test_every_format_has_its_kind() -> None:
    assert KIND_OF_FORMAT[stat.S_IFSOCK] is Kind.SOCKET
    assert len(set(KIND_OF_FORMAT.values())) == 7
    assert all(stat.S_IFMT(fmt) == fmt & FORMAT_MASK == fmt for fmt in KIND_OF_FORMAT)


def test_device_numbers_are_as_the_format_says() -> None:
    st = os.stat("/dev/null")
    assert device_number(st) == 1 << 32 | 3


def test_a_file_system_has_one_name_and_another_one_has_another(tmp_path: Path) -> None:
    first, again, proc = folder_fd(tmp_path), folder_fd(tmp_path), folder_fd(Path("/proc"))
    try:
        known = FileSystems()
        here = known.of(first, os.fstat(first).st_dev)
        assert FileSystems().of(again, os.fstat(again).st_dev) == here
        there = known.of(proc, os.fstat(proc).st_dev)
        assert (len(here.id), len(there.id)) == (16, 16)
        assert here.id != there.id
        assert any(here.id)
        assert there.pseudo
        assert not here.pseudo
    finally:
        for fd in (first, again, proc):
            os.close(fd)


def test_an_unreadable_mount_table_takes_nothing_for_a_view_of_the_kernel(tmp_path: Path) -> None:
    assert not FileSystems(str(tmp_path / "none")).is_pseudo(os.stat("/proc").st_dev)
    (tmp_path / "odd").write_text("1 2 nonsense - proc\n")
    assert not FileSystems(str(tmp_path / "odd")).is_pseudo(os.stat("/proc").st_dev)


def test_mount_points_not_entered_have_names_too() -> None:
    assert unopened_file_system(1) == unopened_file_system(1)
    assert unopened_file_system(1).id != unopened_file_system(2).id
