from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.core import limits
from ibs.errors import NoSpace
from ibs.ports.chunkstore import Space
from ibs.storage.local import space as module
from ibs.storage.local.space import Reserve, Room, floor_bytes, floor_inodes, measure

GIB = limits.GIB


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    held = os.open(tmp_path, os.O_RDONLY)
    yield held
    os.close(held)


def pretend(monkeypatch: pytest.MonkeyPatch, *answers: Space) -> list[Space]:
    left = list(answers)
    monkeypatch.setattr(module, "measure", lambda _fd: left.pop(0) if len(left) > 1 else left[0])
    return left


def test_floors_scale_with_the_file_system() -> None:
    big = Space(bytes_total=1000 * GIB, bytes_free=0, inodes_total=10**8, inodes_free=0)
    small = Space(bytes_total=100_000, bytes_free=0, inodes_total=500, inodes_free=0)
    assert (floor_bytes(big), floor_inodes(big)) == (64 * limits.MIB, 1024)
    assert (floor_bytes(small), floor_inodes(small)) == (2000, limits.STORE_RESERVE_INODES)
    none = Space(bytes_total=100_000, bytes_free=0, inodes_total=0, inodes_free=0)
    assert floor_inodes(none) == 0


@pytest.mark.parametrize("total", [10_000, 100 * limits.MIB, 900 * limits.MIB, 2 * GIB, 1000 * GIB])
def test_a_reserve_that_was_given_up_is_not_for_writers(
    fd: int, tmp_path: Path, total: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, Space(total, total, 900, 900))
    monkeypatch.setattr(os, "posix_fallocate", lambda fd, _at, size: os.ftruncate(fd, size))
    reserve = Reserve(fd, Room(fd, "main"))
    reserve.fill()
    held = tmp_path / "reserve"
    size, inodes = (held / "bytes").stat().st_size, len(list(held.glob("inode-*")))
    reserve.release()
    pretend(monkeypatch, Space(total, size, 900, inodes))  # the disk was full but for that
    with pytest.raises(NoSpace):
        Room(fd, "main").take(1, 0)
    pretend(monkeypatch, Space(total, total, 900, inodes))
    with pytest.raises(NoSpace, match="inodes"):
        Room(fd, "main").take(1, 1)


def test_writers_stop_at_the_floor_of_bytes(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, Space(100_000, 4000, 0, 0))
    room = Room(fd, "main")
    room.take(2000)
    with pytest.raises(NoSpace, match="no free bytes"):
        room.take(2001)


def test_writers_stop_at_the_floor_of_inodes(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, Space(100_000, 90_000, 1000, 18))
    room = Room(fd, "main")
    room.take(1, 2)
    with pytest.raises(NoSpace, match="no free inodes"):
        room.take(1, 3)


def test_the_file_system_is_asked_seldom_when_there_is_much_room(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    much = Space(1000 * GIB, 900 * GIB, 10**8, 10**8)
    monkeypatch.setattr(module, "measure", lambda _fd: asked.append(1) or much)
    room = Room(fd, "main")
    for _ in range(1000):
        room.take(limits.MIB, 2)
    assert len(asked) == 4  # once a 256 MiB grant
    room.forget()
    room.take(1)
    assert len(asked) == 5


def test_measure_shows_what_an_ordinary_user_has(fd: int) -> None:
    figures = os.fstatvfs(fd)
    space = measure(fd)
    assert space.bytes_total == figures.f_blocks * figures.f_frsize
    assert space.bytes_free <= space.bytes_total


def test_the_reserve_is_filled_released_and_refilled(fd: int, tmp_path: Path) -> None:
    reserve = Reserve(fd, Room(fd, "main"))
    assert not reserve.release()
    reserve.fill()
    held = tmp_path / "reserve" / "bytes"
    assert held.stat().st_blocks * 512 >= held.stat().st_size > 0
    assert len(list((tmp_path / "reserve").iterdir())) == 1 + limits.STORE_RESERVE_INODES
    assert reserve.release()
    assert list((tmp_path / "reserve").iterdir()) == []
    reserve.fill()
    assert held.exists()


def test_no_reserve_is_taken_from_a_disk_at_its_floor(fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, Space(100_000, 1100, 1000, 500))
    Reserve(fd, Room(fd, "main")).fill()
    assert not (tmp_path / "reserve").exists()
    pretend(monkeypatch, Space(100_000, 90_000, 1000, 30))
    Reserve(fd, Room(fd, "main")).fill()
    assert not (tmp_path / "reserve").exists()


def sqlite_full() -> sqlite3.Error:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), OSError(errno.EDQUOT, "quota"), sqlite_full()])
def test_deleting_gets_the_reserve_when_the_disk_is_full(fd: int, error: Exception) -> None:
    reserve = Reserve(fd, Room(fd, "main"))
    reserve.fill()
    errors = [error]

    def work() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert reserve.retrying(work) == "done"
    errors.append(error)
    with pytest.raises(type(error)):
        reserve.retrying(work)  # nothing left to give


def test_other_errors_do_not_cost_the_reserve(fd: int, tmp_path: Path) -> None:
    reserve = Reserve(fd, Room(fd, "main"))
    reserve.fill()

    def work() -> None:
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"):
        reserve.retrying(work)
    assert (tmp_path / "reserve" / "bytes").exists()
