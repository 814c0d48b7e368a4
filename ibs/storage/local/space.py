"""Room on the file system: a floor at which writers stop, and a reserve that lets deletion work on a full disk.

Used inside `storage.local` (PROTOCOLS 13, DESIGN P7). The reserve is `.ibs/reserve/`: one preallocated file and a
few empty ones, given up when a deletion meets ENOSPC and refilled when there is room again. The floor lies above it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from ibs.core import limits
from ibs.errors import NoSpace
from ibs.ports.chunkstore import Space
from ibs.storage.local import files
from ibs.storage.local.layout import FILE_MODE, RESERVE
from ibs.storage.local.quota import quotas
from ibs.storage.local.trouble import is_full

T = TypeVar("T")

_RESERVE_FILE = "bytes"


def measure(fd: int) -> Space:
    """Figures of the file system below `fd`, as an ordinary user sees them, and of the quotas that hold there."""
    figures = os.fstatvfs(fd)
    held = quotas(fd)
    blocks = min(((one.bytes_total - one.bytes_used, one.bytes_total) for one in held if one.bytes_total), default=None)
    inodes = min(
        ((one.inodes_total - one.inodes_used, one.inodes_total) for one in held if one.inodes_total), default=None
    )
    return Space(
        bytes_total=figures.f_blocks * figures.f_frsize,
        bytes_free=figures.f_bavail * figures.f_frsize,
        inodes_total=figures.f_files,
        inodes_free=figures.f_favail,
        quota_bytes_free=max(0, blocks[0]) if blocks else None,
        quota_bytes_total=blocks[1] if blocks else None,
        quota_inodes_free=max(0, inodes[0]) if inodes else None,
        quota_inodes_total=inodes[1] if inodes else None,
        quota=", ".join(one.who for one in held),
    )


def floor_bytes(space: Space) -> int:
    """Free bytes that writers leave."""
    return _floor_bytes(space.bytes_total)


def floor_inodes(space: Space) -> int:
    """Free inodes that writers leave; 0 on file systems that have no fixed number of them."""
    return _floor_inodes(space.inodes_total)


def spare_bytes(space: Space) -> tuple[int, str]:
    """Bytes above the floor, below 0 under it; and what they are of: `quota` where that is what ends first."""
    spare = space.bytes_free - floor_bytes(space)
    if space.quota_bytes_free is not None:
        by_quota = space.quota_bytes_free - _floor_bytes(space.quota_bytes_total or 0)
        # With a project's quota the file system gives the quota's figures as its own.
        if by_quota <= spare or space.quota_bytes_free == space.bytes_free:
            return min(by_quota, spare), "quota"
    return spare, "bytes"


def spare_inodes(space: Space) -> tuple[int | None, str]:
    """As `spare_bytes`, of inodes; None where neither the file system nor a quota counts them."""
    spare = space.inodes_free - floor_inodes(space) if space.inodes_total else None
    if space.quota_inodes_free is not None:
        by_quota = space.quota_inodes_free - _floor_inodes(space.quota_inodes_total or 0)
        if spare is None:
            return by_quota, "quota"
        if by_quota <= spare or space.quota_inodes_free == space.inodes_free:
            return min(by_quota, spare), "quota"
    return spare, "inodes"


# Never below the reserve: what a deletion was given of it while the disk is full must not go to a writer.


def _floor_bytes(total: int) -> int:
    return max(min(limits.STORE_FLOOR_BYTES_MAX, total // limits.STORE_FLOOR_SHARE), _reserve_bytes(total))


def _floor_inodes(total: int) -> int:
    share = min(limits.STORE_FLOOR_INODES_MAX, total // limits.STORE_FLOOR_SHARE)
    return max(share, limits.STORE_RESERVE_INODES) if total else 0


def _reserve_bytes(total: int) -> int:
    return min(limits.STORE_RESERVE_BYTES_MAX, total // limits.STORE_RESERVE_SHARE)


class Room:
    """Watches the floor for writers. Thread-safe.

    The file system is asked again after a quarter of what was free is used up, so that the cost vanishes on a big
    disk and the floor is still exact on a nearly full one.
    """

    def __init__(self, root_fd: int, store: str) -> None:
        self._fd = root_fd
        self._store = store
        self._lock = threading.Lock()
        self._bytes = 0
        self._inodes = 0

    def take(self, size: int, inodes: int = 0) -> None:
        """Before writing `size` bytes into `inodes` new files and folders. Raises NoSpace at the floor."""
        with self._lock:
            if size > self._bytes or inodes > self._inodes:
                self._grant(size, inodes)
            self._bytes -= size
            self._inodes -= inodes

    def forget(self) -> None:
        """Ask the file system again before the next write (something was refused, or freed)."""
        with self._lock:
            self._bytes = self._inodes = 0

    def _grant(self, size: int, inodes: int) -> None:
        space = measure(self._fd)
        room, what = spare_bytes(space)
        if room < size:
            raise NoSpace(f"datastore {self._store}", what)
        self._bytes = max(size, min(room // 4, limits.STORE_SPACE_GRANT_BYTES_MAX))
        free, what = spare_inodes(space)
        if free is None:  # Btrfs and others make inodes as they go
            self._inodes = max(inodes, self._bytes)
            return
        if free < inodes:
            self._bytes = 0
            raise NoSpace(f"datastore {self._store}", what)
        self._inodes = max(inodes, free // 4)


class Reserve:
    """The reserve of one store. Best effort by nature: a file system that cannot preallocate has none."""

    def __init__(self, meta_fd: int, room: Room) -> None:
        self._meta_fd = meta_fd
        self._room = room
        self._lock = threading.Lock()

    def fill(self) -> None:
        """Make it whole where there is room above the floor; nothing happens otherwise."""
        with self._lock, contextlib.suppress(OSError):
            space = measure(self._meta_fd)
            total = min(space.bytes_total, space.quota_bytes_total or space.bytes_total)
            size = _reserve_bytes(total)
            if spare_bytes(space)[0] < size:
                return
            inodes = spare_inodes(space)[0]
            if inodes is not None and inodes < limits.STORE_RESERVE_INODES:
                return
            files.make_dir(RESERVE, dir_fd=self._meta_fd)
            with files.opened([RESERVE], dir_fd=self._meta_fd) as held:
                for name in [_RESERVE_FILE, *(f"inode-{n}" for n in range(limits.STORE_RESERVE_INODES))]:
                    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE, dir_fd=held)
                    try:
                        if name == _RESERVE_FILE and size:
                            os.posix_fallocate(fd, 0, size)
                    finally:
                        os.close(fd)

    def release(self) -> bool:
        """Give it up; False when there was nothing to give."""
        given = False
        with self._lock, contextlib.suppress(FileNotFoundError), files.opened([RESERVE], dir_fd=self._meta_fd) as held:
            for name in files.names(held):
                # Truncated through a descriptor first: removing the name may itself need room.
                with contextlib.suppress(OSError):
                    os.close(os.open(name, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=held))
                given |= files.unlink_quietly(name, dir_fd=held)
        self._room.forget()
        return given

    def retrying(self, work: Callable[[], T]) -> T:
        """Run `work`; when the disk is full, release the reserve and run it once more.

        `work` must be repeatable from its start. Raises OSError, sqlite3.Error.
        """
        try:
            return work()
        except (OSError, sqlite3.Error) as error:
            if not is_full(error) or not self.release():
                raise
        return work()
