"""Quotas: what the kernel says is understood, and on a real ext4 with project quotas it is what stops the writers."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.core.limits import MIB, STORE_RESERVE_INODES
from ibs.errors import NoSpace
from ibs.ports.chunkstore import Space
from ibs.storage.local import quota as module
from ibs.storage.local import space
from ibs.storage.local.quota import GROUP, PROJECT, USER, Dqblk, Quota, device_of, quotas, used_up
from ibs.storage.local.space import Reserve, Room, measure, spare_bytes, spare_inodes
from ibs_tests.conftest import LACKING_KERNEL

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system: needs root")


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    held = os.open(tmp_path, os.O_RDONLY)
    yield held
    os.close(held)


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "project_of", lambda _fd: 77)


def kernel(answers: dict[int, Dqblk]) -> module.Ask:
    def ask(fd: int, kind: int, number: int) -> Dqblk:
        if kind not in answers:
            raise OSError(errno.ESRCH, "no quota")
        assert number == {PROJECT: 77, USER: os.geteuid(), GROUP: os.getegid()}[kind]
        return answers[kind]

    return ask


@pytest.mark.usefixtures("project")
def test_limits_are_the_lower_of_hard_and_soft(fd: int) -> None:
    found = quotas(
        fd,
        kernel(
            {
                PROJECT: Dqblk(bhardlimit=20, bsoftlimit=10, curspace=4096, ihardlimit=5, curinodes=2),
                USER: Dqblk(curspace=1 << 40),  # counted, not limited
                GROUP: Dqblk(isoftlimit=9, curinodes=1),
            }
        ),
    )
    assert found == [Quota("project 77", 10240, 4096, 5, 2), Quota(f"group {os.getegid()}", 0, 0, 9, 1)]


def test_a_folder_without_a_project_has_its_owners_quota(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "project_of", lambda _fd: 0)
    answers = {PROJECT: Dqblk(bhardlimit=1), USER: Dqblk(bhardlimit=2)}
    assert [one.who for one in quotas(fd, kernel(answers))] == [f"user {os.geteuid()}"]


def test_a_file_system_without_quotas_has_none(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert quotas(fd) == []  # whatever the temporary folder is on, nobody limits it in tests

    def refuse(_fd: int) -> int:
        raise OSError(errno.ENOTTY, "")

    monkeypatch.setattr(module, "project_of", refuse)
    assert quotas(fd, kernel({USER: Dqblk(bhardlimit=1)})) == []


def test_the_tightest_quota_counts_and_is_told(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    two = [Quota("project 77", 10 * MIB, 9 * MIB, 100, 99), Quota("user 5", 8 * MIB, 2 * MIB, 0, 0)]
    monkeypatch.setattr(space, "quotas", lambda _fd: two)
    found = measure(fd)
    assert (found.quota_bytes_free, found.quota_bytes_total) == (MIB, 10 * MIB)
    assert (found.quota_inodes_free, found.quota_inodes_total) == (1, 100)
    assert found.quota == "project 77, user 5"
    assert spare_bytes(found) == (MIB - 10 * MIB // 50, "quota")
    assert spare_inodes(found) == (1 - STORE_RESERVE_INODES, "quota")


def test_writers_stop_below_the_quota_and_say_so(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "quotas", lambda _fd: [Quota("user 5", 10 * MIB, 9 * MIB)])
    room = Room(fd, "main")
    room.take(1000)
    with pytest.raises(NoSpace, match="no free quota") as refused:
        room.take(MIB)
    assert "raise it" in refused.value.hint
    monkeypatch.setattr(space, "quotas", lambda _fd: [Quota("user 5", 0, 0, 50, 50)])
    room.forget()
    with pytest.raises(NoSpace, match="no free quota"):
        room.take(1, 1)


def test_a_quota_with_room_does_not_hide_a_full_disk(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    roomy = Space(1 << 40, 9 * MIB, 1000, 3, quota_bytes_free=8 * MIB, quota_bytes_total=10 * MIB, quota="user 5")
    monkeypatch.setattr(space, "measure", lambda _fd: roomy)
    assert spare_bytes(roomy) == (9 * MIB - 64 * MIB, "bytes")
    with pytest.raises(NoSpace, match="no free bytes"):
        Room(fd, "main").take(1)
    clamped = Space(10 * MIB, 0, 100, 0, 0, 10 * MIB, 0, 100, "project 77")  # the file system tells the quota's figures
    assert (spare_bytes(clamped)[1], spare_inodes(clamped)[1]) == ("quota", "quota")


def test_over_its_quota_nothing_is_left_not_less(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "quotas", lambda _fd: [Quota("user 5", MIB, 2 * MIB, 10, 12)])
    found = measure(fd)
    assert (found.quota_bytes_free, found.quota_inodes_free) == (0, 0)
    assert used_up(Quota("user 5", MIB, 2 * MIB))
    assert used_up(Quota("user 5", 0, 0, 10, 10))
    assert not used_up(Quota("user 5", MIB, 0, 10, 9))


def test_the_reserve_respects_the_quota(tmp_path: Path, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "quotas", lambda _fd: [Quota("user 5", 10 * MIB, 0)])
    Reserve(fd, Room(fd, "main")).fill()
    assert 0 < (tmp_path / "reserve" / "bytes").stat().st_size <= MIB


def test_the_device_is_found_by_its_number(tmp_path: Path, fd: int) -> None:
    number = os.fstat(fd).st_dev
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 0:21 / /proc rw - proc proc rw\n"
        f"23 1 {os.major(number)}:{os.minor(number)} / /a\\040b rw,relatime shared:1 - ext4 /dev/a\\040disk rw\n"
    )
    assert device_of(fd, str(table)) == "/dev/a disk"
    table.write_text("")
    with pytest.raises(FileNotFoundError):
        device_of(fd, str(table))


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of 64 MiB, and in it a folder whose project 77 may use 16 MiB and 200 inodes."""
    image, mounted = tmp_path / "image", tmp_path / "mnt"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    try:
        made = ["mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota", str(image)]
        for command in (made, ["mount", "-o", "loop,prjquota", str(image), str(mounted)]):
            subprocess.run(command, check=True, capture_output=True)
    except OSError:
        pytest.skip("needs mkfs.ext4")
    except subprocess.CalledProcessError:
        pytest.skip(f"{LACKING_KERNEL}CONFIG_QFMT_V2 (project quotas of ext4), or loop devices")
    try:
        folder = mounted / "store"
        folder.mkdir()
        _limit(folder)
        yield folder
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def _limit(folder: Path) -> None:
    held = os.open(folder, os.O_RDONLY)
    try:
        flags = bytearray(28)
        fcntl.ioctl(held, module._GET_FLAGS, flags)
        flags[0:4] = (int.from_bytes(flags[0:4], "little") | 0x200).to_bytes(4, "little")  # FS_XFLAG_PROJINHERIT
        flags[12:16] = (77).to_bytes(4, "little")
        fcntl.ioctl(held, 0x401C5820, bytes(flags))  # FS_IOC_FSSETXATTR
        wanted = Dqblk(bhardlimit=16 * 1024, ihardlimit=200, valid=1 | 4)
        done = module._libc.syscall(
            module._QUOTACTL_FD, held, ctypes.c_uint(0x800008 << 8 | PROJECT), 77, ctypes.byref(wanted)
        )
        assert done == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(held)


@pytest.mark.root
@needs_root
def test_a_real_project_quota_is_read_and_heeded(limited: Path) -> None:
    held = os.open(limited, os.O_RDONLY)
    try:
        (limited / "some").write_bytes(bytes(4 * MIB))
        os.sync()
        found = measure(held)
        assert found.quota == "project 77"
        assert (found.quota_bytes_total, found.quota_inodes_total) == (16 * MIB, 200)
        assert found.quota_bytes_free is not None
        assert 11 * MIB < found.quota_bytes_free <= 12 * MIB
        with pytest.raises(NoSpace, match="no free quota"):
            Room(held, "main").take(12 * MIB)
    finally:
        os.close(held)
